import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** The timeout of a proxy's start. */
const START_MS = 20_000;

/**
 * A free TCP port of 127.0.0.1: most peers cannot choose one themselves.
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
 * Waits until the port accepts connections. Peers have no common way to report that they are ready.
 * @param {number} port
 * @param {import('./children.mjs').Child} child the process that should; an error if it ends instead
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
