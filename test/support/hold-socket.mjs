// A thread that listens and accepts nothing, as systemd does with a socket that it passes on: its event loop is blocked
// until the test is over.
import { createServer } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

/** @type {unknown} */
const data = workerData;
const { where, gate } = /** @type {{ where: import('node:net').ListenOptions, gate: SharedArrayBuffer }} */ (
  data
);
const server = createServer().listen(where, () => {
  // Node documents no other way to the descriptor of a listening socket.
  /** @type {unknown} */
  const handle = Reflect.get(server, '_handle');
  const { fd } = /** @type {{ fd: number }} */ (handle);
  parentPort?.postMessage({ fd, address: server.address() });
  Atomics.wait(new Int32Array(gate), 0, 0);
  server.close();
});
