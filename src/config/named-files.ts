import { readText, statPath } from '../files/read-file.js';
import type { BuildContext, PathKind, TextOfFile } from './build-context.js';
import { fileErrorReason } from './file-error.js';

type Files = Pick<BuildContext, 'kindOf' | 'textOf'>;

/**
 * Runs a check that depends on the types of paths and on the text of files. The first run collects the paths, then all of them
 * are looked up, and the second run uses the results. Therefore no other code waits for a file system.
 */
export async function withFiles<T>(judge: (files: Files) => T): Promise<T> {
  const paths = new Map<string, PathKind>();
  const texts = new Map<string, ReturnType<TextOfFile>>();
  const files: Files = {
    kindOf(path) {
      const kind = paths.get(path) ?? 'file';
      paths.set(path, kind);
      return kind;
    },
    textOf(path) {
      const text = texts.get(path) ?? '';
      texts.set(path, text);
      return text;
    },
  };
  const first = judge(files);
  if (paths.size + texts.size === 0) return first;
  await Promise.all([
    ...[...paths.keys()].map(async (path) => paths.set(path, await kindOf(path))),
    ...[...texts.keys()].map(async (path) => texts.set(path, await textOf(path))),
  ]);
  return judge(files);
}

async function kindOf(path: string): Promise<PathKind> {
  try {
    return (await statPath(path)).isDirectory() ? 'directory' : 'file';
  } catch (error) {
    return { reason: fileErrorReason(error) };
  }
}

async function textOf(path: string): Promise<ReturnType<TextOfFile>> {
  try {
    return await readText(path);
  } catch (error) {
    return { reason: fileErrorReason(error) };
  }
}
