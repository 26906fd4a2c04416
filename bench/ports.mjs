import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** What a proxy may take to start. */
const START_MS = 20_000;

/**
 * A TCP port of 127.0.0.1 that nobody listens on: most peers cannot be told to choose one themselves.
 * @returns {Promise<number>}
 */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  return address.port;
}

/**
 * Waits until someone accepts on the port. Peers do not tell in a common way when they are ready, so this asks.
 * @param {number} port
 * @param {import('./children.mjs').Child} child who should; an error if it ends instead
 * @param {string} name
 */
export async function listening(port, child, name) {
  /** @type {string | undefined} */
  let ended;
  void child.ended.then((how) => {
    ended = how;
  });
  for (const deadline = Date.now() + START_MS; Date.now() < deadline;) {
    if (ended !== undefined) throw new Error(`${name} ended at its start: ${ended}`);
    if (await accepts(port)) return;
    await pause(25);
  }
  throw new Error(`${name} does not listen after ${START_MS / 1000} s`);
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
