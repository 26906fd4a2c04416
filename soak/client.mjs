import { conversation, startChild } from '../bench/children.mjs';

/** @typedef {{ operations: number, p50_us: number, max_us: number }} LoadOutcome */

/**
 * One client of the Go load, from its start to its end.
 * @param {string} load
 * @param {string} kind
 * @param {readonly string[]} args
 * @param {number} seconds
 * @param {number} port
 * @param {string} ca
 * @returns {Promise<LoadOutcome>} rejects if an operation failed
 */
export async function measureClient(load, kind, args, seconds, port, ca) {
  const child = await startChild(load, [
    'client',
    ...['--scenario', kind, '--target', `tls://127.0.0.1:${port}`, '--ca', ca],
    ...['--warmup', '200ms', '--duration', `${Math.round(seconds * 1000)}ms`, ...args],
  ]);
  try {
    const client = conversation(child, `the client of ${kind}`);
    await client.hear('ready');
    const done = client.hear('done');
    client.say('go');
    const { result } = /** @type {{ result: LoadOutcome }} */ (await done);
    client.say('end');
    await child.ended;
    return result;
  } finally {
    await child.stop();
  }
}

/**
 * The same for whom only the number counts.
 * @param {Parameters<typeof measureClient>} args
 * @returns {Promise<number>} operations that it made, all of which succeeded
 */
export async function runClient(...args) {
  return (await measureClient(...args)).operations;
}
