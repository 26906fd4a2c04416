import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';

import { formatHostPort } from '../config/host-port.js';
import type { Address } from '../config/model.js';
import { INHERITED_BACKLOG, KEEP_ALIVE_MS } from '../limits.js';
import { accepted, type Accepted } from '../connection/accepted.js';
import { bindHost, portOf } from '../process/bind-host.js';
import { DEFAULT_ACCESS, UnixSocket, type SocketAccess } from './unix-socket.js';

/** The sockets of a listener. */
interface Bound {
  /** One per address of a name, on the same port. At least one. */
  readonly servers: readonly Server[];
  /** Addresses of the name that this machine does not have. */
  readonly absent: readonly string[];
  readonly socket: UnixSocket | undefined;
  readonly isInherited: boolean;
}

/** Options for binding a listener, besides its address. */
export interface BindOptions {
  /** Descriptors of sockets that are already bound to the address. If there are none, it is bound here. */
  readonly inherited?: readonly number[];
  /** For a unix socket that is bound here. */
  readonly access?: SocketAccess | undefined;
}

/** A bound address: accepts connections and hands them on, unread. */
export class Listener {
  readonly #bound: Bound;
  /** What was accepted before it was open. */
  #early: Accepted[] = [];

  private constructor(bound: Bound) {
    this.#bound = bound;
    for (const server of bound.servers) server.on('connection', this.#keep);
  }

  /**
   * Binds the address, each one of a name, or takes the descriptors of sockets that are bound to it. Connections wait until
   * the listener is opened.
   * @throws the system's error, `EADDRINUSE` and `EACCES` among them; nothing is bound then
   */
  static async bind(
    listen: Address,
    { inherited = [], access = DEFAULT_ACCESS }: BindOptions = {},
  ): Promise<Listener> {
    if (inherited.length > 0) {
      const servers = await Promise.all(inherited.map((fd) => bindOne({ fd, backlog: INHERITED_BACKLOG })));
      return new Listener({ servers, absent: [], socket: undefined, isInherited: true });
    }
    if (listen.scheme === 'unix') {
      const { server, socket } = await UnixSocket.listen(listen.path, access, (path) => bindOne({ path }));
      return new Listener({ servers: [server], absent: [], socket, isInherited: false });
    }
    return new Listener({ ...(await bindHost(listen, bindOne)), socket: undefined, isInherited: false });
  }

  /** Whether the sockets are shared with the process that bound them. */
  get isInherited(): boolean {
    return this.#bound.isInherited;
  }

  /** Addresses of its name that this machine does not have. */
  get absent(): readonly string[] {
    return this.#bound.absent;
  }

  /** The bound addresses, each as `host:port`; none for a unix socket. */
  get addresses(): string[] {
    return this.#bound.servers.flatMap((server) => {
      const bound = server.address();
      if (bound === null || typeof bound === 'string') return [];
      return [formatHostPort({ host: bound.address, port: bound.port })];
    });
  }

  /** The address as bound: port 0 has become the port that was taken. `listen` says what is spoken there now. */
  url(listen: Address): string {
    const [server] = this.#bound.servers;
    if (listen.scheme === 'unix' || !server) return listen.url;
    return `${listen.scheme}://${formatHostPort({ host: listen.host, port: portOf(server) || listen.port })}`;
  }

  /** Whether it is bound, on every address of a name. */
  get listening(): boolean {
    return this.#bound.servers.every(({ listening }) => listening);
  }

  /**
   * Changes the access to a unix socket that was bound here.
   * @throws an error that names the missing permission; nothing has changed then
   */
  async setAccess(access: SocketAccess): Promise<void> {
    await this.#bound.socket?.setAccess(access);
  }

  /** From now on each connection is handed to `accept`, those that wait first. */
  open(accept: (accepted: Accepted) => void): void {
    for (const server of this.#bound.servers) {
      server.off('connection', this.#keep);
      server.on('connection', (raw: Socket) => accept(accepted(raw)));
    }
    for (const early of this.#early.splice(0)) accept(early);
  }

  /** Accepts no more. An inherited socket stays open with whoever else has it, and what connects waits there. */
  close(): void {
    this.#bound.socket?.remove();
    for (const server of this.#bound.servers) if (server.listening) server.close();
    for (const { raw } of this.#early.splice(0)) raw.destroy();
  }

  readonly #keep = (raw: Socket): void => {
    this.#early.push(accepted(raw));
  };
}

function bindOne(
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
