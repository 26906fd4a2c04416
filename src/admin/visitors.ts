import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import {
  ADMIN_ANSWER_MS,
  MAX_ADMIN_CONNECTIONS,
  MAX_ADMIN_PIPELINED,
  MAX_ADMIN_UNREAD_BYTES,
} from '../limits.js';

/**
 * The state of a connection, in the order in which connections of one address are closed to make room: idle ones first. A new one
 * has not sent its first request yet.
 */
const LEAVING_ORDER = ['idle', 'reading', 'new', 'waiting'] as const;

/** A connection of the admin port. */
interface Visitor {
  readonly socket: Socket;
  readonly address: string;
  /** `waiting`: for its answer to be generated; `reading`: the client is reading the answer. */
  does: (typeof LEAVING_ORDER)[number];
  sinceMs: number;
  unreadBytes: number;
  /** Pipelined requests. */
  pending: number;
  turn: Promise<void>;
}

/**
 * The connections of the admin port. No client can lock out the others: if there are too many connections, or too many bytes
 * wait to be read, a connection of the address with the most connections is closed.
 */
export class Visitors {
  readonly #visitors = new Map<Socket, Visitor>();

  /** A connection was accepted. */
  enter(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const visitor: Visitor = {
      socket,
      address,
      does: 'new',
      sinceMs: performance.now(),
      unreadBytes: 0,
      pending: 0,
      turn: Promise.resolve(),
    };
    if (this.#visitors.size >= MAX_ADMIN_CONNECTIONS) this.#leave(this.#next(LEAVING_ORDER));
    this.#visitors.set(socket, visitor);
    socket.once('close', () => this.#visitors.delete(socket));
  }

  /** Answers a request when the previous answers on its connection have been read. `answer` ends the response. */
  serve(socket: Socket, response: ServerResponse, answer: () => Promise<void>): void {
    const visitor = this.#visitors.get(socket);
    if (!visitor) return;
    if (++visitor.pending > MAX_ADMIN_PIPELINED) {
      this.#leave(visitor);
      return;
    }
    const closed = new Promise<void>((resolve) => response.once('close', resolve));
    visitor.turn = visitor.turn.then(async () => {
      this.#change(visitor, 'waiting');
      if (!visitor.socket.destroyed) await answer().catch(() => this.#leave(visitor));
      if (!visitor.socket.destroyed) {
        visitor.unreadBytes = response.writableLength;
        this.#change(visitor, 'reading');
        this.#boundUnread();
        const timer = setTimeout(() => this.#leave(visitor), ADMIN_ANSWER_MS).unref();
        await closed;
        clearTimeout(timer);
      }
      visitor.pending--;
      visitor.unreadBytes = 0;
      this.#change(visitor, 'idle');
    });
  }

  #change(visitor: Visitor, does: Visitor['does']): void {
    visitor.does = does;
    visitor.sinceMs = performance.now();
  }

  /** Closes slow readers until the bytes that wait for the others are within the limit. */
  #boundUnread(): void {
    const unreadBytes = (): number =>
      [...this.#visitors.values()].reduce((sum, visitor) => sum + visitor.unreadBytes, 0);
    while (unreadBytes() > MAX_ADMIN_UNREAD_BYTES && this.#leave(this.#next(['reading'])));
  }

  /**
   * The connection to close next, from the address with the most connections. The address comes before the state: while one
   * address waits for many answers, the new connection of a probe would be the only one that does not.
   */
  #next(states: readonly Visitor['does'][]): Visitor | undefined {
    const all = [...this.#visitors.values()];
    const countOf = ({ address }: Visitor): number => all.filter((one) => one.address === address).length;
    const rank = (visitor: Visitor): number => states.indexOf(visitor.does);
    return all
      .filter((visitor) => rank(visitor) >= 0)
      .sort((a, b) => countOf(b) - countOf(a) || rank(a) - rank(b) || a.sinceMs - b.sinceMs)[0];
  }

  /** @returns whether a connection was closed */
  #leave(visitor: Visitor | undefined): boolean {
    if (!visitor) return false;
    this.#visitors.delete(visitor.socket);
    visitor.socket.destroy();
    return true;
  }
}
