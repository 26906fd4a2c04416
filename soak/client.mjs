import { conversation, startChild } from '../bench/children.mjs';

/**
 * One client of the Go load, from its start to its end.
 * @param {string} load
 * @param {string} kind
 * @param {readonly string[]} args
 * @param {number} seconds
 * @param {number} port
 * @param {string} ca
 * @returns {Promise<number>} operations that it made, all of which succeeded
 */
export async function runClient(load, kind, args, seconds, port, ca) {
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
    /** @type {{ result: { operations: number } }} */
    const { result } = await done;
    client.say('end');
    await child.ended;
    return result.operations;
  } finally {
    await child.stop();
  }
}
