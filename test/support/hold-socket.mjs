// A thread that listens and accepts nothing, as systemd does with a socket that it hands over: its event loop stands
// still until the test is over.
import { createServer } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

const server = createServer().listen(workerData.where, () => {
  parentPort.postMessage({ fd: server._handle.fd, address: server.address() });
  Atomics.wait(new Int32Array(workerData.gate), 0, 0);
  server.close();
});
