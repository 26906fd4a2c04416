import { lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';

import type { Address } from '../config/model.js';
import { INHERITED_BACKLOG, KEEP_ALIVE_MS } from '../limits.js';
import { accepted, type Accepted } from './accepted.js';

/** A bound address: accepts connections and hands them on, unread. */
export class Port {
  /** Whether somebody else has bound it, and has it too. */
  readonly isInherited: boolean;
  readonly #server: Server;
  /** What was accepted before it was open. */
  #early: Accepted[] = [];

  private constructor(server: Server, isInherited: boolean) {
    this.isInherited = isInherited;
    this.#server = server;
    server.on('connection', this.#keep);
  }

  /**
   * Binds the address, or takes the descriptor of a socket that is bound to it. Connections wait until the port is opened.
   * @throws the system's error, `EADDRINUSE` and `EACCES` among them
   */
  static async bind(listen: Address, inherited?: number): Promise<Port> {
    if (inherited === undefined) return new Port(await bind(listen), false);
    return new Port(await tryBind({ fd: inherited, backlog: INHERITED_BACKLOG }), true);
  }

  /** The address as bound: port 0 has become the port that was taken. `listen` says what is spoken there now. */
  url(listen: Address): string {
    const bound = this.#server.address();
    if (listen.scheme === 'unix' || bound === null || typeof bound === 'string') return listen.url;
    const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
    return `${listen.scheme}://${host}:${bound.port}`;
  }

  /** Whether the address is bound. */
  get listening(): boolean {
    return this.#server.listening;
  }

  /** From now on each connection is handed to `accept`, those that wait first. */
  open(accept: (accepted: Accepted) => void): void {
    this.#server.off('connection', this.#keep);
    this.#server.on('connection', (raw: Socket) => accept(accepted(raw)));
    for (const early of this.#early.splice(0)) accept(early);
  }

  /** Accepts no more. An inherited socket stays open with whoever else has it, and what connects waits there. */
  close(): void {
    if (this.#server.listening) this.#server.close();
    for (const { raw } of this.#early.splice(0)) raw.destroy();
  }

  readonly #keep = (raw: Socket): void => {
    this.#early.push(accepted(raw));
  };
}

async function bind(listen: Address): Promise<Server> {
  const options: ListenOptions =
    listen.scheme === 'unix' ? { path: listen.path } : { host: listen.host, port: listen.port };
  try {
    return await tryBind(options);
  } catch (error) {
    const inUse = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    if (listen.scheme !== 'unix' || !inUse || !(await isStale(listen.path))) throw error;
    // Nobody listens: the socket was left by a process that could not remove it.
    await unlink(listen.path);
    return await tryBind(options);
  }
}

function tryBind(
  options: ListenOptions | { readonly fd: number; readonly backlog: number },
): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      pauseOnConnect: true,
    });
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}

/**
 * Whether a path is a unix socket that nobody listens on. Only a refused connection says so: a listener that is busy
 * (EAGAIN) or that we may not reach (EACCES) is alive; and connecting to a plain file is refused too.
 */
async function isStale(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) return false;
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve('code' in error && error.code === 'ECONNREFUSED'));
  });
}
