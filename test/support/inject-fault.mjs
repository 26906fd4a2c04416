// Loaded into the program with `node --import`: a fault of the proxy in one connection's code, where the test's bytes
// ask for it. `FAULT throw` throws where the bytes are written, `FAULT later` from a callback that nobody guards.
import { Socket } from 'node:net';

const { write, unshift } = Socket.prototype;

Socket.prototype.write = function faultyWrite(chunk, ...rest) {
  if (Buffer.isBuffer(chunk) || chunk instanceof Uint8Array) {
    const text = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString('latin1', 0, 64);
    if (text.startsWith('FAULT throw')) throw new Error('an injected fault in write');
    if (text.startsWith('FAULT later')) {
      setImmediate(() => {
        throw new Error('an injected fault outside of any connection');
      });
    }
  }
  return write.call(this, chunk, ...rest);
};

// A ClientHello is read and put back: one that names this server fails there.
Socket.prototype.unshift = function faultyUnshift(chunk, ...rest) {
  if (Buffer.isBuffer(chunk) && chunk.includes('fault.test')) throw new Error('an injected fault in unshift');
  return unshift.call(this, chunk, ...rest);
};
