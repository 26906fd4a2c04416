import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once, setMaxListeners } from 'node:events';
import { createServer as createHttpServer, request } from 'node:http';
import { createServer } from 'node:net';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { conversation, startChild } from '../bench/children.mjs';
import { freePort } from '../bench/ports.mjs';
import { cpuSecondsBetween, readCpu } from '../bench/proc.mjs';
import { measureClient } from './client.mjs';
import { gateClient, innocentClient } from './hostile/innocent.mjs';
import { RenewedPair } from './pairs.mjs';
import { Program } from './program.mjs';
import { growth, median } from './slope.mjs';
import { buildSupport, importSupport } from './support.mjs';

const ATTACKER = fileURLToPath(new URL('hostile/attacker.mjs', import.meta.url));

/** The work of a polite client: calls on short connections. */
const POLITE = ['--connections', '4', '--concurrency', '2', '--pause', '20ms'];
/** Each measures a median and a worst value of its own: the worst of ten minutes cannot be compared with that of one. */
const POLITE_SECONDS = 10;
/** How long all but the attacks runs before them, to compare with. */
const ALONE_SECONDS = 30;
const RENEWAL_MS = 5000;
const INNOCENT_MS = 10_000;
const GATE_CLIENTS = 2;
const SAMPLE_MS = 1000;
/** A liveness probe of Kubernetes waits for one second; the unit's watchdog for half a minute. */
const PROBE_MS = 1000;
const LIVENESS_MS_MAX = 5000;

/**
 * A long attack is made in rounds, each followed by a rest in which everything is closed: the levels of memory at rest show a leak
 * that the coming and going of connections hides.
 */
const ROUND_SECONDS = 75;
const ROUNDS_MIN = 4;
/** An attack of less than this is a single round, and memory is not judged. */
const ROUNDS_FROM_SECONDS = 120;
const REST_SAMPLES = 8;
const REST_SAMPLE_MS = 500;
/**
 * The maximum growth of a process over all rounds after the warm-up, at rest and under attack; V8 and the allocator vary by less.
 * Ten minutes are some 100 000 connections, so a leak of 500 bytes per connection fails.
 */
const GROWTH_KIB = 48 * 1024;

/** The columns of the table that compares the attacks. */
const COLUMNS = [
  'attack',
  'strokes',
  'p50, ms (without)',
  `worst of ${POLITE_SECONDS} s, ms (without)`,
  'liveness, ms',
  'CPU per stroke, ms',
];

/** Limits that a crowd on one machine can reach. */
const LIMITS = {
  max_connections: 600,
  max_connections_per_source: 150,
  max_connection_age: '20s',
  max_connection_age_grace: '10s',
  // Behind an upstream that is not reading, a disconnected client is noticed after this time.
  timeouts: { write_stall: '5s' },
};

/**
 * All attacks at once, or those named by `--attack`, beside a polite load whose certificate is renewed all the time.
 * With `--each` one attack after the other, each for `--minutes`.
 * @param {import('./run.mjs').Run} run
 * @returns {Promise<string[]>} the losses and the growth that were found
 */
export async function hostile(run) {
  await buildSupport();
  const { ATTACKS } = await import('./hostile/attacks.mjs');
  const { attack = Object.keys(ATTACKS), each = false } = run;
  const unknown = attack.find((name) => ATTACKS[name] === undefined);
  if (unknown !== undefined) return [`unknown attack ${unknown}: ${Object.keys(ATTACKS).join(', ')}`];
  const stage = await Stage.start(run);
  try {
    await stage.alone();
    for (const names of each ? attack.map((name) => [name]) : [attack])
      await stage.attack(names, run.minutes * 60);
    stage.compare();
    return await stage.finish();
  } finally {
    stage.stop();
  }
}

/**
 * The observations of one round.
 * @typedef {object} Round
 * @property {number} seconds
 * @property {number} cpuSeconds
 * @property {{ p50: number, worst: number, operations: number }[]} polite microseconds
 * @property {number[]} memory KiB, under attack
 * @property {number} atRestKib
 * @property {number} descriptors at rest
 * @property {number} slowestProbeMs
 * @property {{ strokes: number, outcomes: Record<string, number> }[]} ends of the attackers
 */

/** The proxy, its upstreams, and the observations. */
class Stage {
  /** @type {string[]} */
  #failures = [];
  /** @type {(() => void)[]} */
  #stops = [];
  #run;
  #proxy;
  #target;
  #pair;
  #gate;
  /** The comparison of attacks. @type {string[][]} */
  #rows = [];
  #counts = { innocents: 0, requests: 0, connections: 0 };
  /** At rest, before the first attack. */
  #before = { descriptors: Number.POSITIVE_INFINITY, memoryKib: 0 };
  /** Without attack: latency of the polite load in microseconds, and CPU as the share of a core. */
  #alone = { p50: 0, worst: 0, cpu: 0 };

  /**
   * @param {import('./run.mjs').Run} run
   * @param {Program} proxy
   * @param {Record<string, unknown>} target the target of the attackers
   * @param {RenewedPair} pair the server's
   * @param {{ port: number, certificate: { cert: Buffer, key: Buffer } }} gate with the certificate of a client
   */
  constructor(run, proxy, target, pair, gate) {
    this.#run = run;
    this.#proxy = proxy;
    this.#target = target;
    this.#pair = pair;
    this.#gate = gate;
  }

  /** @param {import('./run.mjs').Run} run */
  static async start(run) {
    const { program, directory, backendPort, workers, load } = run;
    const pair = await RenewedPair.create(load, directory);
    const client = await clientCertificate(directory);
    const stalled = createServer({ pauseOnConnect: true }, (socket) => {
      socket.on('error', () => {});
      // Its SETTINGS, so that the proxy takes it for a server that answers; it does not read.
      socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    });
    const mute = createServer({ pauseOnConnect: true }, (socket) => void socket.on('error', () => {}));
    const web = createHttpServer((asked, response) => {
      asked.resume().once('end', () => void response.end('{}'));
    });
    const upstreams = [stalled, mute, web];
    await Promise.all(upstreams.map((server) => once(server.listen(0, '127.0.0.1'), 'listening')));
    const [port, stalledPort, mutePort] = [await freePort(), await freePort(), await freePort()];
    const [requiredPort, gatePort] = [await freePort(), await freePort()];
    const [openGatePort, stalledGatePort] = [await freePort(), await freePort()];
    const tls = { client_auth: 'optional', client_ca_path: client.cert };
    const configuration = {
      tls: { certificate_path: pair.served.cert, key_path: pair.served.key },
      ...LIMITS,
      workers,
      listeners: [
        { listen: `tls://127.0.0.1:${port}`, forward: `tcp://127.0.0.1:${backendPort}`, tls },
        { listen: `tls://127.0.0.1:${stalledPort}`, forward: `tcp://127.0.0.1:${portOf(stalled)}` },
        {
          listen: `tls://127.0.0.1:${requiredPort}`,
          forward: `tcp://127.0.0.1:${backendPort}`,
          inspect: 'required',
        },
        { listen: `tls://127.0.0.1:${mutePort}`, forward: `tcp://127.0.0.1:${portOf(mute)}` },
        {
          listen: `https://127.0.0.1:${gatePort}`,
          forward: `http://127.0.0.1:${portOf(web)}`,
          tls: { ...tls, client_auth: 'require' },
        },
        { listen: `https://127.0.0.1:${openGatePort}`, forward: `http://127.0.0.1:${portOf(web)}` },
        { listen: `https://127.0.0.1:${stalledGatePort}`, forward: `http://127.0.0.1:${portOf(mute)}` },
      ],
    };
    const proxy = await Program.serve(program, directory, configuration, port);
    const target = {
      ...{ port, stalledPort, mutePort, requiredPort, gatePort, openGatePort, stalledGatePort },
      adminPort: proxy.adminPort,
      pids: proxy.pids,
      ...(await forgedChains()),
    };
    const certificate = { cert: await readFile(client.cert), key: await readFile(client.key) };
    const stage = new Stage(run, proxy, target, pair, { port: gatePort, certificate });
    stage.#stops.push(...upstreams.map((server) => () => void server.close()));
    return stage;
  }

  /** Measures the polite load, the renewals and everything else without an attack. */
  async alone() {
    // A first run makes the program allocate the memory that it needs only once.
    await this.#attackOnce([], ALONE_SECONDS / 3);
    const { polite, seconds, cpuSeconds, slowestProbeMs, atRestKib, descriptors } = await this.#attackOnce(
      [],
      ALONE_SECONDS,
    );
    const { p50, worst, mostWorst } = summary(polite);
    this.#alone = { p50, worst, cpu: cpuSeconds / seconds };
    this.#before = { descriptors, memoryKib: atRestKib };
    console.log(
      `without attack: p50 ${ms(p50)} ms, worst of ${POLITE_SECONDS} s ${ms(worst)} ms (at most ${ms(mostWorst)}), ` +
        `liveness ${slowestProbeMs.toFixed(0)} ms, ${percent(this.#alone.cpu)} of a core, ${mib(atRestKib)} MiB, ` +
        `${descriptors} descriptors`,
    );
  }

  /**
   * @param {readonly string[]} names of the concurrent attacks
   * @param {number} seconds
   */
  async attack(names, seconds) {
    const count =
      seconds < ROUNDS_FROM_SECONDS ? 1 : Math.max(ROUNDS_MIN, Math.round(seconds / ROUND_SECONDS));
    /** @type {Round[]} */
    const rounds = [];
    const failures = this.#failures.length;
    while (rounds.length < count && this.#failures.length === failures)
      rounds.push(await this.#attackOnce(names, seconds / count));
    const loss = this.#failures.length === failures ? 'none' : 'some';
    this.#report(names, rounds, loss);
  }

  /**
   * One round, and the rest behind it.
   * @param {readonly string[]} names
   * @param {number} length seconds
   * @returns {Promise<Round>}
   */
  async #attackOnce(names, length) {
    const begun = Date.now();
    const until = begun + length * 1000;
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const isOver = () => abort.signal.aborted || Date.now() >= until;
    const fail = (/** @type {string} */ who, /** @type {unknown} */ error) => {
      this.#failures.push(`${who}: ${error instanceof Error ? error.message : String(error)}`);
      abort.abort();
    };
    const wait = (/** @type {number} */ milliseconds) =>
      pause(Math.max(0, Math.min(milliseconds, until - Date.now())), undefined, {
        signal: abort.signal,
      }).catch(() => {});
    /** @type {Round['polite']} */
    const polite = [];
    /** @type {number[]} */
    const memory = [];
    let slowestProbeMs = 0;
    const cpu = readCpu(this.#proxy.pid);
    const attackers = await Promise.all(names.map((name, index) => this.#startAttacker(name, index)));
    /** @type {Record<string, () => Promise<void>>} */
    const tasks = {
      'the polite load': async () => {
        while (!isOver())
          polite.push(await this.#polite(Math.max(1, Math.min(POLITE_SECONDS, (until - Date.now()) / 1000))));
      },
      'an innocent client': async () => {
        for (; !isOver(); await wait(INNOCENT_MS)) {
          await innocentClient(this.#proxy.port);
          this.#counts.innocents += 1;
        }
      },
      'a client of the gate': async () => {
        const { port, certificate } = this.#gate;
        const clients = Array.from({ length: GATE_CLIENTS }, () => gateClient(port, certificate, isOver));
        for (const { requests, connections } of await Promise.all(clients)) {
          this.#counts.requests += requests;
          this.#counts.connections += connections;
        }
      },
      'the renewal': async () => {
        for (; !isOver(); await wait(RENEWAL_MS)) await this.#pair.renew();
      },
      'the sampling of memory': async () => {
        for (; !isOver(); await wait(SAMPLE_MS)) memory.push(this.#proxy.memoryKib);
      },
      liveness: async () => {
        for (; !isOver(); await wait(PROBE_MS))
          slowestProbeMs = Math.max(slowestProbeMs, await this.#probe());
      },
    };
    await Promise.all(
      Object.entries(tasks).map(([who, task]) =>
        task().catch((/** @type {unknown} */ error) => fail(who, error)),
      ),
    );
    const ends = await Promise.all(attackers.map((attacker) => attacker.end()));
    const seconds = (Date.now() - begun) / 1000;
    const cpuSeconds = cpuSecondsBetween(cpu, readCpu(this.#proxy.pid));
    await this.#proxy
      .quiet(this.#before.descriptors)
      .catch((/** @type {unknown} */ error) => fail('the rest', error));
    const [atRestKib, { descriptors }] = [await this.#memoryAtRest(), this.#proxy];
    return { seconds, cpuSeconds, polite, memory, atRestKib, descriptors, slowestProbeMs, ends };
  }

  /**
   * Prints the figures of an attack, and judges them.
   * @param {readonly string[]} names
   * @param {readonly Round[]} rounds
   * @param {string} loss of calls
   */
  #report(names, rounds, loss) {
    const { workers } = this.#run;
    for (const [index, name] of names.entries()) {
      /** @type {Map<string, number>} */
      const outcomes = new Map();
      for (const { ends } of rounds)
        for (const [outcome, count] of Object.entries(ends[index]?.outcomes ?? {}))
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + count);
      const strokes = sum(rounds.map(({ ends }) => ends[index]?.strokes ?? 0));
      const what = [...outcomes].map(([outcome, count]) => `${count} ${outcome}`);
      console.log(`  ${name}: ${strokes} strokes: ${what.join(', ')}`);
    }
    const strokes = sum(rounds.flatMap(({ ends }) => ends.map((end) => end.strokes)));
    const seconds = sum(rounds.map((round) => round.seconds));
    const cpuSeconds = sum(rounds.map((round) => round.cpuSeconds));
    const polite = rounds.flatMap((round) => round.polite);
    const { p50, worst, mostWorst } = summary(polite);
    const calls = sum(polite.map(({ operations }) => operations));
    const cpuPerStroke = (1000 * (cpuSeconds - this.#alone.cpu * seconds)) / strokes;
    const slowestProbeMs = Math.max(...rounds.map((round) => round.slowestProbeMs));
    const peak = Math.max(0, ...rounds.flatMap(({ memory }) => memory));
    const atRest = rounds.map(({ atRestKib }) => atRestKib);
    const underAttack = rounds.map(({ memory }) => median(memory));
    const [restGrowth, attackGrowth] = [growth(atRest), growth(underAttack)];
    for (const [grown, when] of /** @type {const} */ ([
      [restGrowth, 'at rest'],
      [attackGrowth, 'under attack'],
    ]))
      if (grown > workers * GROWTH_KIB)
        this.#failures.push(
          `memory ${when} has grown by ${mib(grown)} MiB while the attacks stayed the same`,
        );
    if (slowestProbeMs > LIVENESS_MS_MAX)
      this.#failures.push(`liveness was answered after ${slowestProbeMs.toFixed(0)} ms`);
    const lines = [
      `${names.length === 1 ? names[0] : `${names.length} attacks at once`}, ${seconds.toFixed(0)} s, ` +
        `${rounds.length} ${rounds.length === 1 ? 'round' : 'rounds'}, ${strokes} strokes:`,
      `  polite load: ${calls} calls, ${loss} lost; ` +
        `p50 ${ms(p50)} ms (${(p50 / this.#alone.p50).toFixed(1)} x), worst of ${POLITE_SECONDS} s ${ms(worst)} ms ` +
        `(${(worst / this.#alone.worst).toFixed(1)} x), at most ${ms(mostWorst)} ms`,
      `  liveness at most ${slowestProbeMs.toFixed(0)} ms`,
      `  proxy: ${percent(cpuSeconds / seconds)} of a core, ` + `${cpuPerStroke.toFixed(1)} ms per stroke`,
      `  memory: ${mib(this.#before.memoryKib)} MiB before, ${mib(peak)} at most, ${mib(atRest.at(-1) ?? 0)} after`,
      `  descriptors: ${this.#before.descriptors} before, ${rounds.at(-1)?.descriptors ?? 0} after`,
    ];
    const what = names.length === 1 ? (names[0] ?? '') : 'all at once';
    const [perStroke, comparison] = [
      cpuPerStroke.toFixed(1),
      (/** @type {number} */ value, /** @type {number} */ alone) => `${ms(value)} (${ms(alone)})`,
    ];
    this.#rows.push([
      what,
      String(strokes),
      comparison(p50, this.#alone.p50),
      comparison(worst, this.#alone.worst),
      slowestProbeMs.toFixed(0),
      perStroke,
    ]);
    if (rounds.length >= ROUNDS_MIN)
      lines.push(
        `  at rest after each round: ${atRest.map(mib).join(', ')} MiB, growth after the warm-up ${mib(restGrowth)} MiB`,
        `  median under attack: ${underAttack.map(mib).join(', ')} MiB, growth after the warm-up ${mib(attackGrowth)} MiB`,
      );
    console.log(lines.join('\n'));
  }

  /** Prints the attacks side by side, each value with that without attack. */
  compare() {
    for (const row of [COLUMNS, COLUMNS.map(() => '---'), ...this.#rows])
      console.log(`| ${row.join(' | ')} |`);
  }

  /** The proxy's own report, and its exit. */
  async finish() {
    for (const [name, labels] of /** @type {const} */ ([
      ['internal_errors_total', ''],
      ['worker_exits_total', ''],
      ['rpcs_in_flight', ''],
    ])) {
      const value = await this.#proxy.metric(name, labels);
      if (value !== 0) this.#failures.push(`${name}{${labels}} is ${value}`);
    }
    const reloads = await this.#proxy.metric('tls_reloads_total', 'result="success"');
    // A SIGUSR1 between the two files of a renewal is a failure, but the next look at the files must succeed.
    const isLoaded = (await this.#proxy.metric('tls_last_reload_successful')) === 1;
    if (!isLoaded || reloads < this.#pair.renewals / 2)
      this.#failures.push(`only ${reloads} of ${this.#pair.renewals} renewals were loaded`);
    const dropped = await this.#proxy.metric('connections_dropped_total');
    const lines = await this.#proxy.metric('log_lines_dropped_total');
    const { innocents, requests, connections } = this.#counts;
    console.log(
      `${this.#pair.renewals} renewals; ${innocents} innocent clients; ${requests} requests to the gate on ${connections} connections; ` +
        `${dropped} connections refused by limits, ${lines} log lines dropped`,
    );
    const ended = await this.#proxy.stop();
    if (ended !== 'exit code 0') this.#failures.push(`the proxy ended with ${ended}`);
    return this.#failures;
  }

  stop() {
    for (const stop of this.#stops) stop();
  }

  /** The lowest of some samples, KiB. */
  async #memoryAtRest() {
    let least = Number.POSITIVE_INFINITY;
    for (let sample = 0; sample < REST_SAMPLES; sample += 1) {
      await pause(REST_SAMPLE_MS);
      least = Math.min(least, this.#proxy.memoryKib);
    }
    return least;
  }

  /** @param {number} seconds */
  async #polite(seconds) {
    const { operations, p50_us, max_us } = await measureClient(
      ...[this.#run.load, 'rpc', POLITE, seconds, this.#proxy.port, this.#pair.ca],
    );
    return { operations, p50: p50_us, worst: max_us };
  }

  /** Milliseconds until liveness is answered. */
  async #probe() {
    const begun = performance.now();
    const asked = request({ port: this.#proxy.adminPort, path: '/-/liveness', agent: false });
    /** @type {Promise<import('node:http').IncomingMessage>} */
    const answered = new Promise((resolve, reject) => {
      asked.once('response', resolve);
      asked.once('error', reject);
    });
    asked.end();
    const response = await answered;
    response.resume();
    if (response.statusCode !== 200) throw new Error(`liveness was answered with ${response.statusCode}`);
    return performance.now() - begun;
  }

  /**
   * @param {string} name
   * @param {number} index
   */
  async #startAttacker(name, index) {
    const child = await startChild(process.execPath, [ATTACKER, name]);
    const attacker = conversation(child, `the attacker ${name}`);
    const done = attacker.hear('done');
    done.catch(() => {});
    const sources = { source: `127.0.0.${index + 2}`, otherSource: `127.0.1.${index + 2}` };
    attacker.say(JSON.stringify({ ...this.#target, ...sources }));
    return {
      /** @returns {Promise<{ strokes: number, outcomes: Record<string, number> }>} */
      end: async () => {
        child.process.stdin?.end();
        const result = await done;
        await child.ended;
        return /** @type {{ strokes: number, outcomes: Record<string, number> }} */ (result);
      },
    };
  }
}

/**
 * A client certificate, which is its own CA.
 * @param {string} directory
 */
async function clientCertificate(directory) {
  const [key, cert] = [join(directory, 'client.key'), join(directory, 'client.pem')];
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', '/CN=gitaly', '-addext', 'extendedKeyUsage=clientAuth', '-days', '2'],
    ...['-keyout', key, '-out', cert],
  ]);
  return { cert, key };
}

/**
 * Client certificates with authorities that have not signed them: checking a signature with their keys is expensive.
 * @returns {Promise<{ forgedKey: string, forgedChains: string[] }>} PEM
 */
async function forgedChains() {
  const { KEYS, toPem, unsignedChain } = await importSupport('certificate-chains');
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const chain = (
    /** @type {number} */ length,
    /** @type {number} */ modulusBytes,
    /** @type {number} */ exponentBytes,
  ) =>
    toPem(
      unsignedChain(
        publicKey,
        Array.from({ length: length - 1 }, () => KEYS.rsa(modulusBytes, exponentBytes)),
      ),
    );
  return {
    forgedKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    // The largest exponents that OpenSSL accepts, the largest keys that it accepts, and the most expensive within the limits.
    forgedChains: [chain(75, 384, 384), chain(3, 2048, 8), chain(6, 1024, 4)],
  };
}

/** @param {Round['polite']} polite */
function summary(polite) {
  return {
    p50: median(polite.map((one) => one.p50)),
    worst: median(polite.map((one) => one.worst)),
    mostWorst: Math.max(0, ...polite.map((one) => one.worst)),
  };
}

/** @param {readonly number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/** @param {import('node:net').Server} server */
function portOf(server) {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  return address.port;
}

/** @param {number} micros */
function ms(micros) {
  return (micros / 1000).toFixed(1);
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

/** @param {number} kib */
function mib(kib) {
  return (kib / 1024).toFixed(1);
}
