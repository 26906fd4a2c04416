import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { codeOf } from '../../error-codes.js';

/** A file to be written. */
export interface NewFile {
  readonly path: string;
  readonly content: string;
  /** For a private key: only its owner can read the file, from the first byte on. */
  readonly secret: boolean;
  /** Whether an existing file is replaced. */
  readonly replace: boolean;
}

/** A file that must not be replaced exists. */
export class FileExists extends Error {
  constructor(readonly path: string) {
    super(`${path} already exists`);
  }
}

/**
 * Writes all files or none. Each is first written completely under a temporary name; then all are put in place in their
 * order, so that a concurrent reader never sees a partial file.
 * @throws FileExists and errors of the file system; new files have been removed by then
 */
export async function placeFiles(files: readonly NewFile[]): Promise<void> {
  for (const directory of new Set(files.map(({ path }) => dirname(path))))
    // Regardless of the umask: other users with write access could replace a key.
    await mkdir(directory, { recursive: true, mode: 0o755 });
  const written: { readonly file: NewFile; readonly from: string }[] = [];
  const placed: string[] = [];
  try {
    for (const file of files) {
      const from = join(dirname(file.path), `.${basename(file.path)}.${randomBytes(6).toString('hex')}`);
      written.push({ file, from });
      await write(from, file);
    }
    for (const { file, from } of written) {
      if (file.replace) await rename(from, file.path);
      else {
        await linkNew(from, file.path);
        placed.push(file.path);
      }
    }
  } catch (error) {
    for (const path of placed) await rm(path, { force: true });
    throw error;
  } finally {
    for (const { from } of written) await rm(from, { force: true });
  }
}

async function write(path: string, { content, secret }: NewFile): Promise<void> {
  const mode = secret ? 0o600 : 0o644;
  const handle = await open(path, 'wx', mode);
  try {
    // The umask may have removed the read permission that other users need for a certificate.
    if (!secret) await handle.chmod(mode);
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Unlike a rename, a link never replaces a file that was created in the meantime. */
async function linkNew(from: string, path: string): Promise<void> {
  try {
    await link(from, path);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') throw new FileExists(path);
    throw error;
  }
  await unlink(from);
}
