import { connect as connectHttp2, constants } from 'node:http2';
import { readFile } from 'node:fs/promises';
import { once, setMaxListeners } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { runClient } from './client.mjs';
import { RenewedPair } from './pairs.mjs';
import { Program } from './program.mjs';
import { median, slope } from './slope.mjs';

/** How long one client of the churn lives: its connections come and go with it. */
const CLIENT_SECONDS = 15;
const RENEWAL_MS = 2000;
const RENEWALS_A_RELOAD = 3;
const SAMPLE_MS = 1000;
const LONG_STREAMS = 8;
const LONG_STREAM_PAUSE_MS = 1000;
/** The length of Echo's answer to each message, with its prefix. */
const ECHO_BYTES = 64 * 1024 + 5;

/**
 * The permitted growth of a process after its warm-up: V8 lets its young and its old generation grow by tens of MiB before
 * it collects them. A leak of 1 KiB per operation is 60 MiB in two minutes of this load.
 */
const GROWTH_KIB = 32 * 1024;

/** A run that is long enough for a slope to mean something must have next to none, for each process. */
const SLOPE_MINUTES = 20;
const SLOPE_KIB_PER_HOUR = 16 * 1024;

/** Loads of the Go client, each by a client after the other; the pause keeps the machine from being full. */
const LOADS = [
  { kind: 'connection', args: ['--concurrency', '2', '--pause', '60ms'] },
  { kind: 'mixed', args: ['--connections', '4', '--concurrency', '4', '--pause', '80ms'] },
  { kind: 'rpc', args: ['--connections', '4', '--concurrency', '4', '--pause', '40ms'] },
  { kind: 'sidechannel', args: ['--connections', '2', '--concurrency', '1', '--pause', '1500ms'] },
];

/**
 * Churn, long streams, sidechannels, renewals and reloads for some minutes; then looks for growth.
 * @param {{ minutes: number, load: string, program: string, directory: string, backendPort: number, workers: number }} options
 * @returns {Promise<string[]>} what was lost or has grown; empty if nothing
 */
export async function churn({ minutes, load, program, directory, backendPort, workers }) {
  const pair = await RenewedPair.create(load, directory);
  const { ca } = pair;
  const proxy = await Program.start(program, directory, pair.served, backendPort, { workers });
  const before = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  const until = Date.now() + minutes * 60_000;
  const abort = new AbortController();
  setMaxListeners(0, abort.signal);
  /** @type {string[]} */
  const failures = [];
  const fail = (/** @type {unknown} */ error) => {
    failures.push(error instanceof Error ? error.message : String(error));
    abort.abort();
  };
  const counts = { clients: 0, operations: 0, reloads: 0, messages: 0 };
  /** @type {{ seconds: number, kib: number, descriptors: number }[]} */
  const samples = [];
  const isOver = () => abort.signal.aborted || Date.now() >= until;
  const wait = (/** @type {number} */ ms) =>
    pause(Math.max(0, Math.min(ms, until - Date.now())), undefined, { signal: abort.signal }).catch(() => {});

  const tasks = [
    ...LOADS.map(async ({ kind, args }) => {
      while (!isOver()) {
        const seconds = Math.max(1, Math.min(CLIENT_SECONDS, (until - Date.now()) / 1000));
        const made = await runClient(load, kind, args, seconds, proxy.port, ca);
        counts.operations += made;
        counts.clients += 1;
      }
    }),
    ...Array.from({ length: LONG_STREAMS }, async () => {
      const answered = await longStream(proxy.port, await readFile(ca), isOver, () =>
        wait(LONG_STREAM_PAUSE_MS),
      );
      counts.messages += answered;
    }),
    (async () => {
      for (let next = 1; !isOver(); next += 1) {
        await wait(RENEWAL_MS);
        await pair.renew();
        // A reload while only one of the two files is new would fail, because they do not match.
        if (next % RENEWALS_A_RELOAD !== 0) continue;
        proxy.reload();
        counts.reloads += 1;
      }
    })(),
    (async () => {
      for (const begun = Date.now(); !isOver(); await wait(SAMPLE_MS))
        samples.push({
          seconds: (Date.now() - begun) / 1000,
          kib: proxy.memoryKib,
          descriptors: proxy.descriptors,
        });
    })(),
  ];
  await Promise.all(tasks.map((task) => task.catch(fail)));
  await proxy.quiet(before.descriptors).catch(fail);
  const after = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  failures.push(...(await complaints(proxy)));

  const warm = samples.slice(Math.floor(samples.length / 4));
  const quarter = Math.max(1, Math.floor(samples.length / 4));
  const [early, late] = [samples.slice(quarter, 2 * quarter), samples.slice(-quarter)].map((part) =>
    median(part.map(({ kib }) => kib)),
  );
  // An hour has too many samples to compare all pairs, so only every N-th is used.
  const every = Math.ceil(warm.length / 400);
  const sparse = warm.filter((_, index) => index % every === 0);
  const hourly = (/** @type {'kib' | 'descriptors'} */ what) =>
    3600 * slope(sparse.map((sample) => ({ seconds: sample.seconds, value: sample[what] })));
  const slopeKib = hourly('kib');
  if (late !== undefined && early !== undefined && late > early + workers * GROWTH_KIB)
    failures.push(`memory has grown from ${mib(early)} to ${mib(late)} MiB while the load stayed the same`);
  if (minutes >= SLOPE_MINUTES && slopeKib > workers * SLOPE_KIB_PER_HOUR)
    failures.push(`memory grows by ${mib(slopeKib)} MiB per hour`);
  console.log(
    [
      `${minutes} minutes, ${workers} ${workers === 1 ? 'process' : 'workers'}: ${counts.clients} clients, ` +
        `${counts.operations} operations, ${LONG_STREAMS} streams over all of it with ${counts.messages} messages`,
      `${pair.renewals} renewals, ${counts.reloads} reloads by SIGHUP`,
      `memory: ${mib(before.memoryKib)} MiB before, ${mib(early ?? 0)} warm, ${mib(late ?? 0)} at the end, ` +
        `${mib(after.memoryKib)} idle after; slope ${mib(slopeKib)} MiB/h`,
      `descriptors: ${before.descriptors} before, ${after.descriptors} after; slope ${hourly('descriptors').toFixed(2)}/h`,
    ].join('\n'),
  );
  const ended = await proxy.stop();
  if (ended !== 'exit code 0') failures.push(`the proxy ended with ${ended}`);
  return failures;
}

/** @param {number} kib */
function mib(kib) {
  return (kib / 1024).toFixed(1);
}

/**
 * The faults that the metrics of the proxy report.
 * @param {Program} proxy
 */
export async function complaints(proxy) {
  const found = [];
  for (const [name, labels] of /** @type {const} */ ([
    ['internal_errors_total', ''],
    ['tls_reloads_total', 'result="failure"'],
    ['connections_dropped_total', ''],
    ['upstream_connect_failures_total', ''],
    ['inspector_lost_total', ''],
    ['rpcs_in_flight', ''],
    ['sidechannels_cut_total', ''],
    ['worker_exits_total', ''],
  ])) {
    const value = await proxy.metric(name, labels);
    if (value !== 0) found.push(`${name}{${labels}} is ${value}`);
  }
  return found;
}

/**
 * One call that lasts as long as the soak: a small message now and then, each answered by a large one.
 * @param {number} port
 * @param {Buffer} ca
 * @param {() => boolean} isOver
 * @param {() => Promise<unknown>} rest
 * @returns {Promise<number>} messages that were answered
 */
async function longStream(port, ca, isOver, rest) {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca });
  session.on('error', () => {});
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]: '/bench.Load/Echo',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  let received = 0;
  stream.on('data', (/** @type {Buffer} */ chunk) => (received += chunk.length));
  /** @type {Promise<Record<string, unknown>>} */
  const trailers = new Promise((resolve, reject) => {
    stream.once('trailers', resolve);
    stream.once('error', reject);
    stream.once('close', () => reject(new Error('a long stream ended without trailers')));
  });
  trailers.catch(() => {});
  let sent = 0;
  while (!isOver()) {
    stream.write(Buffer.from([0, 0, 0, 0, 1, 0]));
    sent += 1;
    while (received < sent * ECHO_BYTES) await Promise.race([once(stream, 'data'), trailers]);
    await rest();
  }
  stream.end();
  const status = (await trailers)['grpc-status'];
  session.close();
  if (status !== '0' || received !== sent * ECHO_BYTES)
    throw new Error(
      `a long stream ended with status ${String(status)} and ${received} of ${sent * ECHO_BYTES} bytes`,
    );
  return sent;
}
