import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startChild } from './children.mjs';
import { freePort, listening } from './ports.mjs';

/**
 * A peer that listens.
 * @typedef {object} RunningPeer
 * @property {string} url for the load client
 * @property {number} pid
 * @property {() => Promise<void>} stop
 */

/**
 * The resources that all peers of a run share.
 * @typedef {object} Stage
 * @property {string} directory a private one
 * @property {number} backendPort
 * @property {number} backendPid
 * @property {{ cert: string, key: string, both: string }} files
 */

let starts = 0;

/**
 * Starts a peer in a directory of its own and waits until it listens. Its output goes to a file there.
 * @param {import('./peers/peer.mjs').Peer} peer
 * @param {Stage} stage
 * @returns {Promise<RunningPeer>}
 */
export async function startPeer(peer, stage) {
  const directory = join(stage.directory, `${peer.id}-${(starts += 1)}`);
  await mkdir(directory);
  const listenPort = await freePort();
  const { backendPort, files } = stage;
  const start = peer.start({ directory, listenPort, backendPort, files });
  for (const [name, content] of Object.entries(start.files)) await writeFile(join(directory, name), content);
  const child = await startChild(start.command, start.args, { logFile: join(directory, 'output.log') });
  try {
    await listening(listenPort, child, peer.title);
  } catch (error) {
    await child.stop();
    const said = await readFile(join(directory, 'output.log'), 'utf8').catch(() => '');
    throw new Error(`${error instanceof Error ? error.message : String(error)}; ${lastLines(said)}`);
  }
  return { url: `tls://127.0.0.1:${listenPort}`, pid: child.pid, stop: child.stop };
}

/**
 * The end of a program's output, for an error in one line.
 * @param {string} output
 */
function lastLines(output) {
  const lines = output.trim().split('\n').slice(-3).join(' / ').slice(-400);
  return lines === '' ? 'no output' : `output: ${lines}`;
}
