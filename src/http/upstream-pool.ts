import { Agent, type ClientRequest, type ClientRequestArgs } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import type { ConnectionEvents } from '../connection/events.js';
import type { ConnectionBudget } from '../connection/listener.js';
import { UPSTREAM_IDLE_CONNECTIONS_MAX, UPSTREAM_IDLE_MS } from '../limits.js';
import type { Dialer } from '../upstream/dialer.js';
import { UpstreamFailure } from '../upstream/failure.js';

/**
 * The connections to one HTTP upstream, each of which serves one request after the other. A pool never changes: a reload
 * that changes how upstream is reached makes another, and this one is retired.
 */
export class UpstreamPool extends Agent {
  readonly #dialer: Dialer;
  readonly #events: Pick<ConnectionEvents, 'upstreamConnected' | 'upstreamFailed'>;
  readonly #budget: ConnectionBudget;
  /** Sockets that wait for a request. */
  readonly #idle = new Set<Socket>();
  #retired = false;

  /** `budget`: of descriptors; while a request is served, its client's connection has paid for upstream's too. */
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

  /** Keeps no connection from now on; requests under way finish. */
  retire(): void {
    this.#retired = true;
    for (const socket of this.#idle) socket.destroy();
  }

  override createConnection(
    _options: ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const startedAtMs = performance.now();
    const { url } = this.#dialer.address;
    this.#dialer.connect().done.then(
      (socket) => {
        this.#events.upstreamConnected(url, (performance.now() - startedAtMs) / 1000);
        socket.once('close', () => this.#endIdle(socket));
        callback?.(null, socket);
      },
      (error: unknown) => {
        const failure =
          error instanceof UpstreamFailure ? error : new UpstreamFailure('other', String(error));
        this.#events.upstreamFailed(url, failure.reason);
        // Node wants a socket here whatever has happened, and does not look at it then.
        callback?.(failure, new Socket().destroy());
      },
    );
  }

  /** Node asks whether to keep a socket whose request has ended. */
  override keepSocketAlive(socket: Duplex): boolean {
    super.keepSocketAlive(socket);
    if (this.#retired || !(socket instanceof Socket) || !this.#budget.take()) return false;
    this.#idle.add(socket);
    // Node destroys one that is idle for so long; a request under way has no such bound.
    socket.setTimeout(UPSTREAM_IDLE_MS);
    return true;
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    super.reuseSocket(socket, request);
    if (!(socket instanceof Socket)) return;
    this.#endIdle(socket);
    socket.setTimeout(0);
  }

  #endIdle(socket: Socket): void {
    if (this.#idle.delete(socket)) this.#budget.giveBack();
  }
}
