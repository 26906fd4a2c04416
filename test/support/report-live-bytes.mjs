// Loaded into the program with `node --expose-gc --import`: each connection to the unix socket LIVE_BYTES_SOCKET is answered
// with the number of bytes that are live after a garbage collection, of V8's heap and of buffers.
import { createServer } from 'node:net';

const collect = globalThis.gc;
if (collect === undefined) throw new Error('node runs without --expose-gc');

createServer((socket) => {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  socket.end(String(heapUsed + external));
})
  .listen(process.env['LIVE_BYTES_SOCKET'])
  .unref();
