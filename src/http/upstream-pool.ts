import { Agent, type ClientRequest, type ClientRequestArgs, type IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import type { ConnectionEvents } from '../connection/connection-events.js';
import type { ConnectionBudget } from '../connection/admission.js';
import { UPSTREAM_IDLE_CONNECTIONS_MAX, UPSTREAM_IDLE_MARGIN_MS, UPSTREAM_IDLE_MS } from '../limits.js';
import type { Dialer } from '../upstream/dialer.js';
import { UpstreamFailure } from '../upstream/failure.js';
import { fieldsOf, valuesOf } from './hop-by-hop.js';

/** The options of a request to an upstream. */
export interface PooledRequest extends ClientRequestArgs {
  readonly agent: UpstreamPool;
  /** Called if a connection is dialled for the request. The dial does not end by itself if the request is destroyed. */
  readonly dialling: (dial: AbortController) => void;
}

/**
 * The connections to one HTTP upstream. Each serves one request at a time. The settings of a pool never change: a reload that changes
 * how upstream is reached creates another pool, and retires this one.
 */
export class UpstreamPool extends Agent {
  readonly #dialer: Dialer;
  readonly #events: Pick<ConnectionEvents, 'upstreamConnected' | 'upstreamFailed'>;
  readonly #budget: ConnectionBudget;
  /** Idle sockets, each with its `data` listener. */
  readonly #idle = new Map<Socket, () => void>();
  /** The keep-alive timeouts that upstream has announced, in milliseconds. */
  readonly #keptMs = new WeakMap<Socket, number>();
  #retired = false;

  /** `budget` is charged for idle connections. While a request is served, its client's connection has reserved both descriptors. */
  constructor(
    dialer: Dialer,
    events: Pick<ConnectionEvents, 'upstreamConnected' | 'upstreamFailed'>,
    budget: ConnectionBudget,
  ) {
    super({ keepAlive: true, maxFreeSockets: UPSTREAM_IDLE_CONNECTIONS_MAX });
    this.#dialer = dialer;
    this.#events = events;
    this.#budget = budget;
  }

  /** Closes idle connections, and keeps none from now on. Open requests finish. */
  retire(): void {
    this.#retired = true;
    for (const socket of this.#idle.keys()) socket.destroy();
  }

  /** Records the keep-alive timeout that an answer announces: `Keep-Alive: timeout=5`. */
  heard({ rawHeaders, socket }: IncomingMessage): void {
    const [kept = ''] = valuesOf(fieldsOf(rawHeaders), 'keep-alive');
    const [, seconds] = /(?:^|[\s,;])timeout=(\d+)/iu.exec(kept) ?? [];
    if (seconds !== undefined) this.#keptMs.set(socket, 1000 * Number(seconds));
  }

  override createConnection(
    { dialling }: PooledRequest,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const startedAtMs = performance.now();
    const { url } = this.#dialer.address;
    const dial = new AbortController();
    dialling(dial);
    this.#dialer.connect(undefined, dial.signal).then(
      (socket) => {
        this.#events.upstreamConnected(url, (performance.now() - startedAtMs) / 1000);
        socket.once('close', () => this.#endIdle(socket));
        callback?.(null, socket);
      },
      (error: unknown) => {
        const failure =
          error instanceof UpstreamFailure ? error : new UpstreamFailure('other', String(error));
        if (!dial.signal.aborted) this.#events.upstreamFailed(url, failure.reason);
        // Node's type requires a socket here, but Node ignores it if there is an error.
        callback?.(failure, new Socket().destroy());
      },
    );
  }

  /** Node calls this when a request has ended. Returns whether to keep its socket. */
  override keepSocketAlive(socket: Duplex): boolean {
    super.keepSocketAlive(socket);
    if (this.#retired || !(socket instanceof Socket)) return false;
    const idleMs = Math.min(
      UPSTREAM_IDLE_MS,
      (this.#keptMs.get(socket) ?? Infinity) - UPSTREAM_IDLE_MARGIN_MS,
    );
    if (idleMs <= 0 || !this.#budget.take()) return false;
    // No request is open: bytes that arrive now would be taken for the answer to the next request.
    const unasked = (): void => void socket.destroy();
    socket.on('data', unasked);
    this.#idle.set(socket, unasked);
    // Node destroys a socket that is idle for this time. An open request has no such limit.
    socket.setTimeout(idleMs);
    return true;
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    super.reuseSocket(socket, request);
    if (!(socket instanceof Socket)) return;
    this.#endIdle(socket);
    socket.setTimeout(0);
  }

  #endIdle(socket: Socket): void {
    const unasked = this.#idle.get(socket);
    if (!unasked) return;
    this.#idle.delete(socket);
    socket.off('data', unasked);
    this.#budget.giveBack();
  }
}
