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
  /** Addresses that the name resolves to but that are not assigned to this machine. */
  readonly absent: readonly string[];
  readonly socket: UnixSocket | undefined;
  readonly isInherited: boolean;
}

/** Options for binding a listener, besides its address. */
export interface BindOptions {
  /** Descriptors of sockets that are already bound to the address. If empty, the address is bound here. */
  readonly inherited?: readonly number[];
  /** For a unix socket that is bound by this process. */
  readonly access?: SocketAccess | undefined;
}

/** A bound address: accepts connections and hands them over without reading from them. */
export class Listener {
  readonly #bound: Bound;
  readonly #early: EarlyConnections;

  private constructor(bound: Bound, early: EarlyConnections) {
    this.#bound = bound;
    this.#early = early;
  }

  /**
   * Binds the address, or every address that a name resolves to; or adopts the descriptors of sockets that are already bound.
   * Connections wait until the listener is opened.
   * @throws the system's error, for example `EADDRINUSE` or `EACCES`; nothing is bound then
   */
  static async bind(
    listen: Address,
    { inherited = [], access = DEFAULT_ACCESS }: BindOptions = {},
  ): Promise<Listener> {
    const early = new EarlyConnections();
    const bind = (options: BoundTo): Promise<Server> => bindOne(options, early);
    try {
      return new Listener(await bindAll(listen, inherited, access, bind), early);
    } catch (error) {
      early.reset();
      throw error;
    }
  }

  /** Whether the sockets are shared with the process that bound them. */
  get isInherited(): boolean {
    return this.#bound.isInherited;
  }

  /** Addresses that its name resolves to but that are not assigned to this machine. */
  get absent(): readonly string[] {
    return this.#bound.absent;
  }

  /** The bound addresses as `host:port`; empty for a unix socket. */
  get addresses(): string[] {
    return this.#bound.servers.flatMap((server) => {
      const bound = server.address();
      if (bound === null || typeof bound === 'string') return [];
      return [formatHostPort({ host: bound.address, port: bound.port })];
    });
  }

  /** The bound address. Port 0 is replaced by the assigned port. The scheme is that of `listen`. */
  url(listen: Address): string {
    const [server] = this.#bound.servers;
    if (listen.scheme === 'unix' || !server) return listen.url;
    return `${listen.scheme}://${formatHostPort({ host: listen.host, port: portOf(server) || listen.port })}`;
  }

  /** Whether every address is bound. */
  get listening(): boolean {
    return this.#bound.servers.every(({ listening }) => listening);
  }

  /**
   * Changes the access to a unix socket that was bound by this process.
   * @throws an error that names the missing permission; nothing has changed then
   */
  async setAccess(access: SocketAccess): Promise<void> {
    await this.#bound.socket?.setAccess(access);
  }

  /** Passes all connections to `accept`, starting with those that are waiting. */
  open(accept: (accepted: Accepted) => void): void {
    this.#early.passTo(accept);
  }

  /** Stops accepting. An inherited socket stays open in other processes that have it; new connections wait in its backlog. */
  close(): void {
    this.#bound.socket?.remove();
    for (const server of this.#bound.servers) if (server.listening) server.close();
    this.#early.reset();
  }
}

/** Keeps the connections that are accepted before a listener is opened. */
class EarlyConnections {
  readonly #kept: Accepted[] = [];
  #accept = (connection: Accepted): void => void this.#kept.push(connection);

  add(raw: Socket): void {
    this.#accept(accepted(raw));
  }

  /** Passes on the kept connections and all later ones. */
  passTo(accept: (connection: Accepted) => void): void {
    this.#accept = accept;
    for (const connection of this.#kept.splice(0)) accept(connection);
  }

  reset(): void {
    for (const { raw } of this.#kept.splice(0)) raw.destroy();
  }
}

type BoundTo = ListenOptions | { readonly fd: number; readonly backlog: number };

async function bindAll(
  listen: Address,
  inherited: readonly number[],
  access: SocketAccess,
  bind: (options: BoundTo) => Promise<Server>,
): Promise<Bound> {
  if (inherited.length > 0) {
    const servers = await Promise.all(inherited.map((fd) => bind({ fd, backlog: INHERITED_BACKLOG })));
    return { servers, absent: [], socket: undefined, isInherited: true };
  }
  if (listen.scheme === 'unix') {
    const { server, socket } = await UnixSocket.listen(listen.path, access, (path) => bind({ path }));
    return { servers: [server], absent: [], socket, isInherited: false };
  }
  return { ...(await bindHost(listen, bind)), socket: undefined, isInherited: false };
}

/** Binds a socket. It accepts connections from the moment it is bound, which is before this function's promise resolves. */
function bindOne(options: BoundTo, early: EarlyConnections): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      pauseOnConnect: true,
    });
    server.on('connection', (raw: Socket) => early.add(raw));
    server.once('error', reject);
    server.listen(options, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}
