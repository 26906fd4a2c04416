import { Agent, type ClientRequest, type ClientRequestArgs, type IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import type { ConnectionEvents } from '../connection/connection-events.js';
import type { ConnectionBudget } from '../connection/admission.js';
import { UPSTREAM_IDLE_CONNECTIONS_MAX, UPSTREAM_IDLE_MARGIN_MS, UPSTREAM_IDLE_MS } from '../limits.js';
import type { Dialer } from '../upstream/dialer.js';
import { UpstreamFailure } from '../upstream/failure.js';
import { fieldsOf, valuesOf } from './hop-by-hop.js';

/**
 * The connections to one HTTP upstream, each of which serves one request after the other. A pool never changes: a reload
 * that changes how upstream is reached makes another, and this one is retired.
 */
export class UpstreamPool extends Agent {
  readonly #dialer: Dialer;
  readonly #events: Pick<ConnectionEvents, 'upstreamConnected' | 'upstreamFailed'>;
  readonly #budget: ConnectionBudget;
  /** Sockets that wait for a request, each with what listens to it meanwhile. */
  readonly #idle = new Map<Socket, () => void>();
  /** For how long upstream keeps a connection, milliseconds, where it has said so. */
  readonly #keptMs = new WeakMap<Socket, number>();
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
    for (const socket of this.#idle.keys()) socket.destroy();
  }

  /** Takes note of how long upstream says that it keeps the connection of an answer: `Keep-Alive: timeout=5`. */
  heard({ rawHeaders, socket }: IncomingMessage): void {
    const [kept = ''] = valuesOf(fieldsOf(rawHeaders), 'keep-alive');
    const [, seconds] = /(?:^|[\s,;])timeout=(\d+)/iu.exec(kept) ?? [];
    if (seconds !== undefined) this.#keptMs.set(socket, 1000 * Number(seconds));
  }

  override createConnection(
    _options: ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const startedAtMs = performance.now();
    const { url } = this.#dialer.address;
    this.#dialer.connect().then(
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
    if (this.#retired || !(socket instanceof Socket)) return false;
    const idleMs = Math.min(
      UPSTREAM_IDLE_MS,
      (this.#keptMs.get(socket) ?? Infinity) - UPSTREAM_IDLE_MARGIN_MS,
    );
    if (idleMs <= 0 || !this.#budget.take()) return false;
    // Nothing was asked: what comes now would be taken for the answer to what somebody asks next.
    const unasked = (): void => void socket.destroy();
    socket.on('data', unasked);
    this.#idle.set(socket, unasked);
    // Node destroys one that is idle for so long; a request under way has no such bound.
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
