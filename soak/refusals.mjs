import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { conversation, startChild } from '../bench/children.mjs';
import { freePort } from '../bench/ports.mjs';
import { complaints } from './churn.mjs';
import { Program } from './program.mjs';
import { median, slope } from './slope.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const GRPC_JS = fileURLToPath(new URL('refusals/grpc-js.mjs', import.meta.url));
const GRPC_CORE = fileURLToPath(new URL('refusals/grpc_core.py', import.meta.url));
const run = promisify(execFile);

const CALLS = 100_000;
const SAMPLE_MS = 500;
const GROWTH_KIB = 32 * 1024;
const KINDS = {
  Unary: 'unary',
  Down: 'server_stream',
  Up: 'client_stream',
  Chat: 'bidi_stream',
  Hold: 'bidi_stream',
};
const POLICY = { rules: [{ name: 'allowed', identities: ['*'], allow: ['interop.Allowed/*'] }] };
/** The message of a refusal, with {rpc} in place of the RPC. */
const REFUSAL =
  'gitaly-tls-proxy: a client without an identity may not call {rpc} (mutator): rule "allowed" does not allow it; ' +
  'fix: add the RPC to `allow` of this rule, or use an identity that may call it';

/**
 * The result of a client.
 * @typedef {object} Made
 * @property {Record<string, number>} refused by code
 * @property {Record<string, number>} allowed by code
 * @property {number} whole allowed calls that were neither cancelled nor had a short deadline
 * @property {number} connections
 * @property {number} uploads_seconds duration of the uploads of 64 MiB
 */

/** @typedef {Record<'policy' | 'tunnel' | 'second tunnel', { calls: number, p50: number, p99: number }>} Latency */

/**
 * Refused calls in a mix with allowed ones, of each gRPC library, over HTTP/2 and within backchannels.
 * @param {import('./run.mjs').Run} options
 * @returns {Promise<string[]>}
 */
export async function refusals({
  load,
  program,
  directory,
  workers,
  calls = CALLS,
  seed = randomInt(2 ** 31),
}) {
  console.log(`seed ${seed}`);
  const go = join(directory, 'refusals');
  await run('go', ['build', '-buildvcs=false', '-o', go, './refusals'], { cwd: join(ROOT, 'test/interop') });
  const python = await findPython();
  await run(load, ['certificate', '--out', directory]);
  const ca = join(directory, 'cert.pem');
  const server = await serve(go);
  const { listeners, addresses } = await listenersTo(server.ports);
  const rpcs = Object.entries(KINDS).flatMap(([kind, type]) => [
    `interop.Refused/${kind}\t${type}\tmutator`,
    `interop.Allowed/${kind}\t${type}\taccessor`,
  ]);
  await writeFile(join(directory, 'rpcs.tsv'), ['method\ttype\toperation', ...rpcs, ''].join('\n'));
  const proxy = await Program.serve(
    program,
    directory,
    {
      workers,
      rpcs_path: join(directory, 'rpcs.tsv'),
      tls: { certificate_path: ca, key_path: join(directory, 'key.pem') },
      listeners,
    },
    0,
  );
  const before = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };

  const { policy, tunnel } = addresses;
  const clients = [
    { name: 'grpc-go', command: [go, 'call', '--address', policy.hashicorp] },
    ...LIBRARIES.map((library) => ({
      name: `grpc-go in a backchannel of ${library}`,
      command: [go, 'call', '--address', policy[library], '--library', library],
    })),
    {
      name: 'grpc-js',
      command: [process.execPath, GRPC_JS, '--address', policy.hashicorp],
    },
    ...(python === undefined
      ? []
      : [
          {
            name: 'grpc core',
            command: [python, GRPC_CORE, '--address', policy.hashicorp],
          },
        ]),
  ];
  const share = String(Math.ceil(calls / clients.length));
  const meters = [
    { name: 'HTTP/2', command: [go, 'measure', '--address', policy.hashicorp, '--tunnel', tunnel.hashicorp] },
    ...LIBRARIES.map((library) => ({
      name: `backchannel of ${library}`,
      command: [
        ...[go, 'measure', '--address', policy[library], '--tunnel', tunnel[library]],
        ...['--library', library],
      ],
    })),
  ];
  /** @type {string[]} */
  const failures = [];
  const fail = (/** @type {unknown} */ error) => {
    failures.push(error instanceof Error ? error.message : String(error));
  };
  /** @type {{ seconds: number, kib: number }[]} */
  const samples = [];
  const begun = Date.now();
  const sampler = setInterval(
    () => samples.push({ seconds: (Date.now() - begun) / 1000, kib: proxy.memoryKib }),
    SAMPLE_MS,
  );
  const measured = await Promise.all(
    meters.map(({ name, command }) => startMeter(name, [...command, '--ca', ca])),
  );
  /** @type {{ name: string, made: Made }[]} */
  const results = [];
  await Promise.all(
    clients.map(async ({ name, command }) => {
      const args = ['--ca', ca, '--calls', share, '--seed', String(seed), '--refusal', REFUSAL];
      const made = /** @type {Made} */ (await outcome(name, [...command, ...args]));
      results.push({ name, made });
      const ended = `${count(made.refused)} refused (${codes(made.refused)}), ${count(made.allowed)} allowed (${codes(made.allowed)})`;
      const uploads = `100 refused uploads of 64 MiB and an allowed one in ${made.uploads_seconds.toFixed(1)} s`;
      console.log(`${name}: ${ended}; ${uploads}; ${made.connections} connections`);
    }),
  ).catch(fail);
  const seconds = (Date.now() - begun) / 1000;
  clearInterval(sampler);
  for (const meter of measured) {
    const latency = await meter.end().catch(fail);
    if (latency) failures.push(...compare(meter.name, latency));
  }
  await proxy.quiet(before.descriptors).catch(fail);
  const after = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };

  const handled = await server.end();
  const served = (/** @type {string} */ service) =>
    Object.entries(handled)
      .filter(([path]) => path.startsWith(`/${service}/`))
      .reduce((sum, [, times]) => sum + times, 0);
  const whole = results.reduce((sum, { made }) => sum + made.whole, 0);
  const timed = measured.reduce((sum, { calls: made }) => sum + made(), 0);
  const refused = results.reduce((sum, { made }) => sum + count(made.refused), 0);
  if (served('interop.Refused') > 0) failures.push(`handlers saw ${served('interop.Refused')} refused calls`);
  const finished = served('interop.Allowed') - (handled['/interop.Allowed/Hold'] ?? 0);
  // The last call of a meter may be cut before its server has seen it.
  if (finished < whole + timed || finished > whole + timed + 2 * measured.length)
    failures.push(`${finished} allowed calls were served, ${whole + timed} were made`);
  const connections = await proxy.metric('connections_total');
  const expected = results.reduce((sum, { made }) => sum + made.connections, 0) + 3 * measured.length;
  if (connections !== expected) failures.push(`${connections} connections were made instead of ${expected}`);
  failures.push(...(await complaints(proxy)));
  const denied = await proxy.metric('policy_decisions_total', 'decision="denied"');

  const quarter = Math.max(1, Math.floor(samples.length / 4));
  const [early, late] = [samples.slice(quarter, 2 * quarter), samples.slice(-quarter)].map((part) =>
    median(part.map(({ kib }) => kib)),
  );
  const hourly =
    3600 * slope(samples.slice(quarter).map(({ seconds: at, kib }) => ({ seconds: at, value: kib })));
  if (late !== undefined && early !== undefined && late > early + workers * GROWTH_KIB)
    failures.push(`memory has grown from ${mib(early)} to ${mib(late)} MiB`);
  console.log(
    [
      `${refused} refused calls in ${seconds.toFixed(0)} s, ${denied} of all calls were judged and refused; handlers saw ${served('interop.Refused')} of them`,
      `${whole} allowed calls of the mix were compared; ${connections} connections`,
      `memory: ${mib(before.memoryKib)} MiB before, ${mib(early ?? 0)} warm, ${mib(late ?? 0)} at the end, ` +
        `${mib(Math.max(...samples.map(({ kib }) => kib)))} at most, ${mib(after.memoryKib)} idle after; slope ${mib(hourly)} MiB/h`,
      `descriptors: ${before.descriptors} before, ${after.descriptors} after`,
    ].join('\n'),
  );
  const ended = await proxy.stop();
  if (ended !== 'exit code 0') failures.push(`the proxy ended with ${ended}`);
  return failures;
}

const LIBRARIES = /** @type {const} */ (['hashicorp', 'libp2p']);

/** @typedef {Record<typeof LIBRARIES[number], string>} Addresses of a listener to each server */

/**
 * A listener that judges calls and one that is a tunnel, for each server.
 * @param {Record<string, number>} ports of the servers
 */
async function listenersTo(ports) {
  const addresses = { policy: /** @type {Addresses} */ ({}), tunnel: /** @type {Addresses} */ ({}) };
  const listeners = [];
  for (const library of LIBRARIES) {
    const forward = `tcp://127.0.0.1:${ports[library]}`;
    for (const way of /** @type {const} */ (['policy', 'tunnel'])) {
      const address = `127.0.0.1:${await freePort()}`;
      addresses[way][library] = address;
      const more = way === 'policy' ? { policy: POLICY } : { inspect: false };
      listeners.push({ listen: `tls://${address}`, forward, ...more });
    }
  }
  return { addresses, listeners };
}

/**
 * Prints the latency of allowed calls.
 * @param {string} name
 * @param {Latency} latency
 * @returns {string[]} failures
 */
function compare(name, latency) {
  const failures = [];
  const { policy, tunnel, 'second tunnel': second } = latency;
  const parts = [];
  for (const which of /** @type {const} */ (['p50', 'p99'])) {
    const noise = Math.abs(tunnel[which] - second[which]);
    const limit = Math.max(tunnel[which], second[which]) * (1 + TOLERANCE[which]) + noise;
    parts.push(`${which} ${policy[which]} ms, through tunnels ${tunnel[which]} and ${second[which]}`);
    if (policy[which] > limit)
      failures.push(
        `${name}: ${which} of allowed calls is ${policy[which]} ms, more than ${limit.toFixed(2)}`,
      );
  }
  console.log(`${name}, ${policy.calls} allowed calls beside the mix: ${parts.join('; ')}`);
  return failures;
}

/**
 * The permitted share of a tunnel's latency, besides the difference between two tunnels. A 99th percentile is determined by few
 * calls: those that waited for the largest bodies of the mix.
 */
const TOLERANCE = { p50: 0.25, p99: 1 };

/** @param {string} go the program */
async function serve(go) {
  const child = await startChild(go, ['serve']);
  const server = conversation(child, 'the server');
  const { ports } = /** @type {{ ports: Record<string, number> }} */ (await server.hear('ready'));
  return {
    ports,
    /** Calls that handlers saw, by path. @returns {Promise<Record<string, number>>} */
    end: async () => {
      const done = server.hear('done');
      child.process.stdin?.end();
      const { result } = /** @type {{ result: Record<string, number> }} */ (await done);
      return result;
    },
  };
}

/**
 * @param {string} name
 * @param {string[]} command
 */
async function startMeter(name, [command = '', ...args]) {
  const child = await startChild(command, args);
  const done = conversation(child, `the meter of ${name}`).hear('done');
  done.catch(() => {});
  let calls = 0;
  return {
    name,
    /** Allowed calls that it made, the first of each connection included. */
    calls: () => calls,
    end: async () => {
      child.process.stdin?.end();
      const { result } = /** @type {{ result: Latency }} */ (await done);
      for (const way of Object.values(result)) calls += way.calls + 1;
      return result;
    },
  };
}

/**
 * @param {string} name
 * @param {string[]} command
 * @returns {Promise<unknown>} rejects if a call has not ended as it must
 */
async function outcome(name, [command = '', ...args]) {
  const child = await startChild(command, args);
  const { result } = /** @type {{ result: unknown }} */ (await conversation(child, name).hear('done'));
  await child.ended;
  return result;
}

/** The Python that has grpc core; installs it for this run's directory if there is none. */
async function findPython() {
  const own = join(ROOT, '.cache/soak/python');
  const ownPython = join(own, 'bin/python');
  for (const python of ['python3', ownPython])
    if (await succeeds(python, ['-c', 'import grpc'])) return python;
  const isInstalled =
    (await succeeds('python3', ['-m', 'venv', own])) &&
    (await succeeds(ownPython, ['-m', 'pip', 'install', '--quiet', 'grpcio'])) &&
    (await access(ownPython).then(() => true));
  if (isInstalled) return ownPython;
  console.log('grpc core is left out: Python has no module grpc, and grpcio cannot be installed');
  return undefined;
}

/**
 * @param {string} command
 * @param {string[]} args
 */
async function succeeds(command, args) {
  return run(command, args, { timeout: 180_000 }).then(
    () => true,
    () => false,
  );
}

/** @param {Record<string, number>} byCode */
function count(byCode) {
  return Object.values(byCode).reduce((sum, times) => sum + times, 0);
}

/** @param {Record<string, number>} byCode */
function codes(byCode) {
  return Object.entries(byCode)
    .map(([code, times]) => `${times} ${code}`)
    .join(', ');
}

/** @param {number} kib */
function mib(kib) {
  return (kib / 1024).toFixed(1);
}
