import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { KEY_UPDATES } from '../limits.js';
import { RateBucket } from '../inspect/rate-bucket.js';

/** Matches lines of OpenSSL's key log with a client's secret after a handshake: the first one ends in `_0`, all others in `_N`. */
const CLIENT_SECRET = Buffer.from('CLIENT_TRAFFIC_SECRET_', 'latin1');
const FIRST = '0'.charCodeAt(0);

interface Client {
  readonly raw: Socket;
  readonly onFlood: () => void;
  /** Set by the first KeyUpdate: most clients send none. */
  updates: RateBucket | undefined;
  isOver: boolean;
}

/**
 * Limits the KeyUpdate messages of TLS 1.3 clients. Each has 27 bytes and costs two key derivations, or four and an answer if it
 * requests one; OpenSSL accepts any number of them. They yield no plaintext, so no event of a socket shows them. The key log
 * does: OpenSSL writes a line for each new secret.
 */
export class KeyUpdateLimit {
  readonly #clients = new WeakMap<TLSSocket, Client>();

  /** Limits a client whose handshake is complete. `onFlood` is called once, when the connection has been reset. */
  watch(socket: TLSSocket, raw: Socket, onFlood: () => void): void {
    this.#clients.set(socket, { raw, onFlood, updates: undefined, isOver: false });
  }

  /** Takes a line of the key log of a socket. */
  keylog(line: Buffer, socket: TLSSocket): void {
    const { length } = CLIENT_SECRET;
    if (line[length] === FIRST || line.compare(CLIENT_SECRET, 0, length, 0, length) !== 0) return;
    const client = this.#clients.get(socket);
    if (!client || client.isOver) return;
    client.updates ??= new RateBucket(KEY_UPDATES);
    if (client.updates.take(1, performance.now())) return;
    client.isOver = true;
    // OpenSSL is reading. The socket below it may be closed now, which stops libuv from reading, but the TLS socket may not.
    reset(client.raw);
    setImmediate(client.onFlood);
  }
}

/** A unix socket cannot be reset. */
export function reset(raw: Socket): void {
  if (raw.remoteFamily === undefined) raw.destroy();
  else raw.resetAndDestroy();
}
