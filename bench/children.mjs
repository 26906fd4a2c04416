import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';

/** The time after SIGTERM until a child is killed. */
const STOP_MS = 5000;

/** Raises the descriptor limit to what the machine allows, then becomes the program: same process id. */
const RAISE_LIMIT = 'ulimit -n "$(ulimit -H -n)"; exec "$@"';

/**
 * @typedef {object} Child
 * @property {number} pid
 * @property {import('node:child_process').ChildProcess} process
 * @property {Promise<string>} ended describes how it ended; never rejects
 * @property {() => Promise<void>} stop
 */

/** Every child that runs, so that none survives the bench. @type {Set<Child>} */
const running = new Set();

/**
 * Starts a program with the largest descriptor limit.
 * @param {string} command
 * @param {string[]} args
 * @param {{ logFile?: string }} [options] with `logFile`, both output streams go there; else they are piped, and
 *   stdin as well
 * @returns {Promise<Child>}
 */
export async function startChild(command, args, { logFile } = {}) {
  const log = logFile === undefined ? undefined : await open(logFile, 'a');
  const child = spawn('/bin/sh', ['-c', RAISE_LIMIT, 'sh', command, ...args], {
    stdio: log === undefined ? ['pipe', 'pipe', 'inherit'] : ['ignore', log.fd, log.fd],
  });
  /** @type {Promise<string>} */
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve(`did not start: ${error.message}`));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  // The bench may write to a client that has just ended: its exit status is the reason, EPIPE adds nothing.
  child.stdin?.on('error', () => {});
  await log?.close();
  if (child.pid === undefined) throw new Error(`${command} ${await ended}`);
  /** @type {Child} */
  const handle = { pid: child.pid, process: child, ended, stop: () => stop(handle) };
  running.add(handle);
  void ended.then(() => running.delete(handle));
  return handle;
}

/** Ends every child that still runs. */
export async function stopAll() {
  await Promise.all([...running].map((child) => child.stop()));
}

/** @param {Child} child */
async function stop(child) {
  if (!running.has(child)) return;
  child.process.kill('SIGTERM');
  const killer = setTimeout(() => child.process.kill('SIGKILL'), STOP_MS);
  await child.ended;
  clearTimeout(killer);
}

/**
 * A child that prints JSON lines to stdout and reads words from stdin: an end of the load.
 * @param {Child} child
 * @param {string} name for errors
 */
export function conversation(child, name) {
  const { stdin, stdout } = child.process;
  if (stdin === null || stdout === null) throw new Error(`${name} has no pipes`);
  /** @type {Map<string, (event: unknown) => void>} */
  const waiting = new Map();
  let rest = '';
  stdout.setEncoding('utf8');
  stdout.on('data', (/** @type {string} */ text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      /** @type {unknown} */
      const parsed = JSON.parse(line);
      const { event } = /** @type {{ event: string }} */ (parsed);
      waiting.get(event)?.(parsed);
      waiting.delete(event);
    }
  });
  const stdoutClosed = once(stdout, 'close');
  return {
    /** @param {string} word */
    say: (word) => void stdin.write(`${word}\n`),
    /**
     * The next event of that name. Call this before sending the word that causes the event.
     * @param {string} event
     * @returns {Promise<unknown>}
     */
    hear: (event) =>
      new Promise((resolve, reject) => {
        waiting.set(event, resolve);
        void stdoutClosed
          .then(() => child.ended)
          .then((how) => reject(new Error(`${name} ended before "${event}": ${how}`)));
      }),
  };
}
