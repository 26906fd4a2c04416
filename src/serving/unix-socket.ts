import { randomBytes } from 'node:crypto';
import { lstatSync, unlinkSync } from 'node:fs';
import { chmod, lchown, link, lstat, rename, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname, join } from 'node:path';

import { codeOf, codeOrMessage } from '../error-codes.js';
import { MAX_SOCKET_ATTEMPTS, MAX_UNIX_PATH_BYTES } from '../limits.js';

/** The access to a unix socket; undefined settings keep the system's default. */
export interface SocketAccess {
  readonly mode: number | undefined;
  readonly owner: Account | undefined;
  readonly group: Account | undefined;
}

/** A user or a group, with its configured name. */
export interface Account {
  readonly id: number;
  readonly name: string;
}

/** The system's default access. */
export const DEFAULT_ACCESS: SocketAccess = { mode: undefined, owner: undefined, group: undefined };

const MAX_MODE = 0o777;
const TEMPORARY_NAME_BYTES = 13;

/** A unix socket in the file system. Only the process that created it removes it. */
export class UnixSocket {
  readonly #path: string;
  readonly #dev: bigint;
  readonly #ino: bigint;
  #access: SocketAccess;

  private constructor(path: string, { dev, ino }: { dev: bigint; ino: bigint }, access: SocketAccess) {
    this.#path = path;
    this.#dev = dev;
    this.#ino = ino;
    this.#access = access;
  }

  /**
   * Listens on a path. The socket is bound under a temporary name and linked to the path once owner, group and mode are set, so
   * clients cannot connect earlier. A stale socket at the path is replaced.
   * @throws the system's error, or one that names the missing permission; nothing is left behind then
   */
  static async listen(
    path: string,
    access: SocketAccess,
    bind: (path: string) => Promise<Server>,
  ): Promise<{ server: Server; socket: UnixSocket }> {
    const { server, at } = await bindTemporary(path, bind);
    try {
      await applyAccess(at, access);
      const facts = await lstat(at, { bigint: true });
      await place(at, path);
      return { server, socket: new UnixSocket(path, facts, access) };
    } catch (error) {
      // Closing the server removes the temporary name.
      server.close();
      throw error;
    }
  }

  /**
   * Changes the access to the socket.
   * @throws as `listen` does; the previous access is restored then
   */
  async setAccess(access: SocketAccess): Promise<void> {
    if (isSame(access, this.#access) || !this.#isOurs()) return;
    try {
      await applyAccess(this.#path, access);
    } catch (error) {
      await applyAccess(this.#path, this.#access).catch(() => undefined);
      throw error;
    }
    this.#access = access;
  }

  /** Removes the path if it is this socket. The socket of a successor is kept. The server must still be open. */
  remove(): void {
    try {
      if (this.#isOurs()) unlinkSync(this.#path);
    } catch {
      // The path was already removed, or removing it is not permitted. In that case the next process replaces the stale socket.
    }
  }

  /** No other file can have its inode while the server is open. */
  #isOurs(): boolean {
    const facts = lstatSync(this.#path, { bigint: true, throwIfNoEntry: false });
    return facts?.dev === this.#dev && facts.ino === this.#ino;
  }
}

/**
 * Binds a temporary name beside the path, with no access for other users. Node removes this name, and never the path, when the
 * server is closed.
 */
async function bindTemporary(
  path: string,
  bind: (path: string) => Promise<Server>,
): Promise<{ server: Server; at: string }> {
  for (let attempt = 1; ; attempt++) {
    const at = temporaryPath(path);
    const umask = process.umask(MAX_MODE);
    // The socket is created before `bind` returns.
    const bound = bind(at);
    process.umask(umask);
    try {
      return { server: await bound, at };
    } catch (error) {
      if (codeOf(error) !== 'EADDRINUSE' || attempt === MAX_SOCKET_ATTEMPTS) throw error;
    }
  }
}

/** A temporary name that is not longer than the path limit. */
function temporaryPath(path: string): string {
  const directory = dirname(path);
  const left = MAX_UNIX_PATH_BYTES - Buffer.byteLength(join(directory, 'x')) + 1;
  const random = randomBytes(TEMPORARY_NAME_BYTES).toString('hex');
  const at = join(
    directory,
    left < TEMPORARY_NAME_BYTES ? random.slice(0, left) : `.${random}`.slice(0, TEMPORARY_NAME_BYTES),
  );
  return at === path ? temporaryPath(path) : at;
}

/** Links a bound socket to its path. Unlike a rename, a link never replaces a socket created by another process meanwhile. */
async function place(at: string, path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await link(at, path);
      await unlink(at);
      return;
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EEXIST') {
        if (attempt === MAX_SOCKET_ATTEMPTS || !(await removeStale(path))) throw inUse(path);
      } else if (code === 'EPERM' || code === 'EOPNOTSUPP' || code === 'EMLINK') {
        // The file system does not support links, or the socket has been given to another user.
        if ((await lstat(path).catch(() => undefined)) !== undefined && !(await removeStale(path)))
          throw inUse(path);
        await rename(at, path);
        return;
      } else {
        throw error;
      }
    }
  }
}

function inUse(path: string): Error {
  return new Error(`EADDRINUSE: another process is listening on it, or ${path} is not a socket`);
}

/**
 * Removes a unix socket that has no listener. Only a refused connection proves that: a listener that is busy (EAGAIN) or not
 * accessible (EACCES) is alive. Connecting to a plain file is refused too.
 * @returns whether the path is free now
 */
async function removeStale(path: string): Promise<boolean> {
  try {
    const before = await lstat(path, { bigint: true });
    if (!before.isSocket() || !(await isRefused(path))) return false;
    const after = await lstat(path, { bigint: true });
    if (after.dev === before.dev && after.ino === before.ino) await unlink(path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true;
    throw error;
  }
}

function isRefused(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const attempt = connect({ path });
    attempt.once('connect', () => {
      attempt.destroy();
      resolve(false);
    });
    attempt.once('error', (error) => resolve(codeOf(error) === 'ECONNREFUSED'));
  });
}

async function applyAccess(path: string, { mode, owner, group }: SocketAccess): Promise<void> {
  const facts = await lstat(path);
  if (group && group.id !== facts.gid) await change(path, facts.uid, group.id, 'group', group);
  if (owner && owner.id !== facts.uid) await change(path, owner.id, group?.id ?? facts.gid, 'owner', owner);
  await chmod(path, mode ?? MAX_MODE & ~currentUmask()).catch((error: unknown) => {
    throw new Error(`cannot set the mode of the socket (${codeOrMessage(error)})`);
  });
}

async function change(
  path: string,
  uid: number,
  gid: number,
  what: 'owner' | 'group',
  { name }: Account,
): Promise<void> {
  try {
    await lchown(path, uid, gid);
  } catch (error) {
    if (codeOf(error) !== 'EPERM') throw error;
    const fix =
      what === 'owner'
        ? `only root can change the owner of a file: run the proxy as ${name}, or remove socket.owner`
        : `the user that runs the proxy is not a member of the group: add it, or remove socket.group`;
    throw new Error(`cannot set the ${what} of the socket to ${name}: ${fix}`);
  }
}

function currentUmask(): number {
  const umask = process.umask(MAX_MODE);
  process.umask(umask);
  return umask;
}

function isSame(one: SocketAccess, other: SocketAccess): boolean {
  return one.mode === other.mode && one.owner?.id === other.owner?.id && one.group?.id === other.group?.id;
}
