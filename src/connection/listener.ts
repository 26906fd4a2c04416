import { lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';

import type { Address } from '../config/model.js';
import { HEADER_BLOCK_MS, KEEP_ALIVE_MS } from '../limits.js';
import type { ConnectionEnd } from './close-reason.js';
import { Connection } from './connection.js';
import { formatEnd, socketEnd } from './peer-address.js';
import type { ConnectionSettings } from './settings.js';
import type { ConnectionStatus } from './status.js';

/** What all listeners of the process share. */
export interface ConnectionBudget {
  /** Whether descriptors for one more connection are left; if so, they are taken. */
  take(): boolean;
  giveBack(): void;
}

const SWEEP_MS_MIN = 100;
const SWEEP_MS_MAX = HEADER_BLOCK_MS / 2;

/** Accepts connections on one address under the settings that hold at the moment. */
export class Listener {
  readonly #server: Server;
  readonly #budget: ConnectionBudget;
  readonly #connections = new Set<Connection>();
  #settings: ConnectionSettings;
  #sweep: NodeJS.Timeout | undefined;
  #state: 'listening' | 'closed' = 'listening';
  #whenDrained: (() => void) | undefined;

  private constructor(server: Server, settings: ConnectionSettings, budget: ConnectionBudget) {
    this.#server = server;
    this.#budget = budget;
    this.#settings = settings;
    this.publish(settings);
    server.on('connection', (raw) => this.#accept(raw));
    server.on('drop', (data) => {
      this.#settings.events.dropped(
        'max_connections',
        formatEnd(socketEnd(data?.remoteAddress, data?.remotePort)),
      );
    });
  }

  /**
   * Binds the address and begins to accept.
   * @throws the system's error, `EADDRINUSE` and `EACCES` among them
   */
  static async listen(settings: ConnectionSettings, budget: ConnectionBudget): Promise<Listener> {
    const server = await bind(settings.configuration.listen);
    return new Listener(server, settings, budget);
  }

  /** The address as bound: port 0 has become the port that was taken. */
  get url(): string {
    const { listen } = this.#settings.configuration;
    const bound = this.#server.address();
    if (listen.scheme === 'unix' || bound === null || typeof bound === 'string') return listen.url;
    const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
    return `${listen.scheme}://${host}:${bound.port}`;
  }

  /** What new connections are accepted under. */
  get settings(): ConnectionSettings {
    return this.#settings;
  }

  /** Connections that are open, those accepted under earlier settings too. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Whether the address is bound. */
  get listening(): boolean {
    return this.#server.listening;
  }

  /** From now on connections are accepted under these settings; open ones keep theirs. */
  publish(settings: ConnectionSettings): void {
    this.#settings = settings;
    this.#server.maxConnections = settings.configuration.maxConnections;
    const { idleMs, writeStallMs } = settings.configuration.timeouts;
    clearInterval(this.#sweep);
    this.#sweep = setInterval(
      () => {
        const now = performance.now();
        for (const connection of this.#connections) connection.sweep(now);
      },
      Math.min(Math.max(Math.min(idleMs, writeStallMs) / 4, SWEEP_MS_MIN), SWEEP_MS_MAX),
    );
    this.#sweep.unref();
  }

  /** Accepts no more and drains open connections. Settles when the last of them has ended. `why` is for the log. */
  close(why: string): Promise<void> {
    this.#state = 'closed';
    if (this.#server.listening) this.#server.close();
    for (const connection of this.#connections) connection.drain(why);
    return new Promise((resolve) => {
      this.#whenDrained = () => {
        clearInterval(this.#sweep);
        resolve();
      };
      if (this.#connections.size === 0) this.#whenDrained();
    });
  }

  /** Breaks all connections off and says how many there were. */
  cutAll(end: ConnectionEnd): number {
    const count = this.#connections.size;
    for (const connection of this.#connections) connection.cut(end);
    return count;
  }

  /** The open connections, the oldest first. */
  *statuses(): Iterable<ConnectionStatus> {
    for (const connection of this.#connections) yield connection.status;
  }

  /** Makes every connection tell of the bytes that have moved. */
  reportBytes(): void {
    for (const connection of this.#connections) connection.reportBytes();
  }

  #accept(raw: Socket): void {
    if (!this.#budget.take()) {
      this.#settings.events.dropped('descriptors', formatEnd(socketEnd(raw.remoteAddress, raw.remotePort)));
      raw.destroy();
      return;
    }
    this.#settings.events.accepted();
    const connection = new Connection(raw, this.#settings);
    this.#connections.add(connection);
    void connection.run().finally(() => {
      this.#connections.delete(connection);
      this.#budget.giveBack();
      if (this.#state === 'closed' && this.#connections.size === 0) this.#whenDrained?.();
    });
  }
}

async function bind(listen: Address): Promise<Server> {
  try {
    return await tryBind(listen);
  } catch (error) {
    const inUse = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    if (listen.scheme !== 'unix' || !inUse || !(await isStale(listen.path))) throw error;
    // Nobody listens: the socket was left by a process that could not remove it.
    await unlink(listen.path);
    return await tryBind(listen);
  }
}

function tryBind(listen: Address): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      pauseOnConnect: true,
    });
    server.once('error', reject);
    server.listen(
      listen.scheme === 'unix' ? { path: listen.path } : { host: listen.host, port: listen.port },
      () => {
        server.off('error', reject);
        resolve(server);
      },
    );
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
