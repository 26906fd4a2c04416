// Loaded into the program with `node --import`: a fault of the proxy in the code of one connection, wherever the test's
// bytes request it. `FAULT throw` throws where the bytes are written, `FAULT later` from an unguarded callback.
import { Socket } from 'node:net';

/** @typedef {(chunk: unknown, ...rest: readonly unknown[]) => unknown} Method */

const write = /** @type {Method} */ (Reflect.get(Socket.prototype, 'write'));
const unshift = /** @type {Method} */ (Reflect.get(Socket.prototype, 'unshift'));

/**
 * @this {Socket}
 * @param {unknown} chunk
 * @param {readonly unknown[]} rest
 */
function faultyWrite(chunk, ...rest) {
  if (chunk instanceof Uint8Array) {
    const text = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString('latin1', 0, 64);
    if (text.startsWith('FAULT throw')) throw new Error('an injected fault in write');
    if (text.startsWith('FAULT later')) {
      setImmediate(() => {
        throw new Error('an injected fault outside of any connection');
      });
    }
  }
  return write.call(this, chunk, ...rest);
}

/**
 * A ClientHello is read and put back: it fails here if it contains this server name.
 * @this {Socket}
 * @param {unknown} chunk
 * @param {readonly unknown[]} rest
 */
function faultyUnshift(chunk, ...rest) {
  if (Buffer.isBuffer(chunk) && chunk.includes('fault.test')) throw new Error('an injected fault in unshift');
  return unshift.call(this, chunk, ...rest);
}

Reflect.set(Socket.prototype, 'write', faultyWrite);
Reflect.set(Socket.prototype, 'unshift', faultyUnshift);
