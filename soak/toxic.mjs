import { randomInt } from 'node:crypto';
import { inspect } from 'node:util';

import { stopAll } from '../bench/children.mjs';
import { Program } from './program.mjs';
import { buildSupport, importSupport } from './support.mjs';

const CONNECTIONS = 10_000;
/** Concurrent connections, in tens. */
const TENS = 25;
/** The variation of V8 and the allocator between the first quarter of the connections and the end. */
const NOISE_KIB = 32 * 1024;

/**
 * The toxic network that the tests have (test/support/toxic), at its full number.
 * @param {import('./run.mjs').Run} run
 */
export async function toxic({
  program,
  directory,
  workers,
  seed = randomInt(2 ** 31),
  connections = CONNECTIONS,
  only,
}) {
  await buildSupport();
  const { Authority } = await importSupport('authority');
  const { LogLines } = await importSupport('log-lines');
  const { ToxicNetwork } = await importSupport('toxic/toxic-network');
  const ca = await Authority.create(directory);
  const network = await ToxicNetwork.start(ca, TENS);
  const configuration = { ...network.configuration, workers };
  /** @type {import('../test/support/log-lines.js').LogLines | undefined} */
  let log;
  const proxy = await Program.serve(program, directory, configuration, 0, (stdout) => {
    log = new LogLines(stdout);
  });
  if (log === undefined) throw new Error('the log of the proxy is not read');
  const before = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  let [warmKib, peakKib] = [0, before.memoryKib];
  const sampler = setInterval(() => {
    const { memoryKib } = proxy;
    peakKib = Math.max(peakKib, memoryKib);
    if (network.tally.connections < connections / 4) warmKib = memoryKib;
  }, 500);
  console.log(`seed ${seed}`);
  for (const event of ['uncaughtException', 'unhandledRejection']) {
    process.on(event, (/** @type {unknown} */ error) => {
      // This is an error of the toxic network, not of the proxy: the rest of the run would prove nothing.
      console.error(`soak: FAILED: seed ${seed}: ${inspect(error)}`);
      process.exitCode = 1;
      void stopAll().finally(() => process.exit());
    });
  }
  const begun = Date.now();
  const onFailure = (/** @type {string} */ failure) => console.error(`soak: seen: ${failure}`);
  const failures = await network.run({ seed, connections, only, onFailure }, log);
  const seconds = (Date.now() - begun) / 1000;
  clearInterval(sampler);
  network.stop();
  await proxy.quiet(before.descriptors);
  const after = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  if (only === undefined && connections >= CONNECTIONS && network.tally.missing.length > 0)
    failures.push(`never occurred: ${network.tally.missing.join('; ')}`);
  for (const name of [
    'internal_errors_total',
    'inspector_lost_total',
    'rpcs_in_flight',
    'connections_dropped_total',
  ]) {
    const value = await proxy.metric(name);
    if (value !== 0) failures.push(`${name} is ${value}`);
  }
  if (warmKib > 0 && after.memoryKib > warmKib + NOISE_KIB) failures.push('memory has grown');
  console.log(network.tally.text);
  console.log(
    `in ${seconds.toFixed(0)} s, ${10 * TENS} at once; memory: ${mib(before.memoryKib)} MiB before, ${mib(warmKib)} after a ` +
      `quarter, ${mib(peakKib)} at most, ${mib(after.memoryKib)} after; ` +
      `descriptors: ${before.descriptors} before, ${after.descriptors} after`,
  );
  const ended = await proxy.stop();
  if (ended !== 'exit code 0') failures.push(`the proxy ended with ${ended}`);
  return failures;
}

/** @param {number} kib */
function mib(kib) {
  return (kib / 1024).toFixed(1);
}
