import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer, request } from 'node:http';
import { createServer } from 'node:net';
import { copyFile, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { conversation, startChild } from '../bench/children.mjs';
import { freePort } from '../bench/ports.mjs';
import { cpuSecondsBetween, readCpu } from '../bench/proc.mjs';
import { measureClient } from './client.mjs';
import { ATTACKS } from './hostile/attacks.mjs';
import { innocentClient } from './hostile/innocent.mjs';
import { forgeChain } from './hostile/forged-chain.mjs';
import { Program } from './program.mjs';
import { median } from './slope.mjs';

const ATTACKER = fileURLToPath(new URL('hostile/attacker.mjs', import.meta.url));

/** The work of a polite client: calls on short connections. */
const POLITE = ['--connections', '4', '--concurrency', '2', '--pause', '20ms'];
const POLITE_SECONDS = 10;
/** How long the polite load runs alone, before the attack and after it, to compare with. */
const ALONE_SECONDS = 15;
const RENEWAL_MS = 5000;
const INNOCENT_MS = 10_000;
const SAMPLE_MS = 1000;
/** A liveness probe of Kubernetes waits for one second; the unit's watchdog for half a minute. */
const PROBE_MS = 1000;
const LIVENESS_MS_MAX = 5000;
/** The variation of V8's and the allocator's memory per process under a constant load. */
const GROWTH_KIB = 48 * 1024;

/** Limits that a crowd on one machine can reach. */
const LIMITS = {
  max_connections: 1000,
  max_connections_per_source: 150,
  max_connection_age: '20s',
  max_connection_age_grace: '10s',
};

/**
 * All attacks at once, or those named by `--attack`, beside a polite load whose certificate is renewed all the time.
 * With `--each` one attack after the other, each for `--minutes`.
 * @param {import('./run.mjs').Run} run
 * @returns {Promise<string[]>} the losses and the growth that were found
 */
export async function hostile(run) {
  const { attack = Object.keys(ATTACKS), each = false } = run;
  const unknown = attack.find((name) => ATTACKS[name] === undefined);
  if (unknown !== undefined) return [`there is no attack ${unknown}: ${Object.keys(ATTACKS).join(', ')}`];
  const stage = await Stage.start(run);
  const rounds = each ? attack.map((name) => [name]) : [attack];
  try {
    await stage.alone();
    for (const names of rounds) await stage.attack(names, run.minutes * 60);
    return await stage.finish();
  } finally {
    stage.stop();
  }
}

/** The proxy, its upstreams, and the observations. */
class Stage {
  /** @type {string[]} */
  #failures = [];
  /** @type {(() => void)[]} */
  #stops = [];
  #run;
  #proxy;
  #target;
  #files;
  #renewals = 0;
  #innocents = 0;
  #before;
  /** Of the polite load alone, microseconds. */
  #alone = { p50: 0, worst: 0, cpu: 0 };

  /**
   * @param {import('./run.mjs').Run} run
   * @param {Program} proxy
   * @param {Record<string, unknown>} target the target of the attackers
   * @param {{ cert: string, key: string }} files
   */
  constructor(run, proxy, target, files) {
    this.#run = run;
    this.#proxy = proxy;
    this.#target = target;
    this.#files = files;
    this.#before = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  }

  /** @param {import('./run.mjs').Run} run */
  static async start(run) {
    const { program, directory, backendPort, workers, load } = run;
    await promisify(execFile)(load, ['certificate', '--out', directory]);
    const files = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
    const stalled = createServer({ pauseOnConnect: true }, (socket) => {
      socket.on('error', () => {});
      // Its SETTINGS, so that the proxy takes it for a server that answers; it reads nothing.
      socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    }).listen(0, '127.0.0.1');
    const web = createHttpServer((_, response) => void response.end('{}')).listen(0, '127.0.0.1');
    await Promise.all([once(stalled, 'listening'), once(web, 'listening')]);
    const [port, stalledPort, gatePort] = [await freePort(), await freePort(), await freePort()];
    const tls = { client_auth: 'optional', client_ca_path: files.cert };
    const configuration = {
      tls: { certificate_path: files.cert, key_path: files.key },
      ...LIMITS,
      workers,
      listeners: [
        { listen: `tls://127.0.0.1:${port}`, forward: `tcp://127.0.0.1:${backendPort}`, tls },
        { listen: `tls://127.0.0.1:${stalledPort}`, forward: `tcp://127.0.0.1:${portOf(stalled)}` },
        {
          listen: `https://127.0.0.1:${gatePort}`,
          forward: `http://127.0.0.1:${portOf(web)}`,
          tls: { ...tls, client_auth: 'require' },
        },
      ],
    };
    const proxy = await Program.serve(program, directory, configuration, port);
    const target = { port, stalledPort, gatePort, adminPort: proxy.adminPort, pids: proxy.pids };
    const forgedChain = forgeChain(directory, 75);
    const stage = new Stage(run, proxy, { ...target, forgedChain }, files);
    stage.#stops.push(
      () => stalled.close(),
      () => web.close(),
    );
    return stage;
  }

  /** Measures the polite load alone. */
  async alone() {
    await this.#polite(ALONE_SECONDS / 3);
    const cpu = readCpu(this.#proxy.pid);
    const { p50, worst } = await this.#polite(ALONE_SECONDS);
    this.#alone = { p50, worst, cpu: cpuSecondsBetween(cpu, readCpu(this.#proxy.pid)) / ALONE_SECONDS };
    await this.#proxy.quiet();
    this.#before = { descriptors: this.#proxy.descriptors, memoryKib: this.#proxy.memoryKib };
    console.log(
      `the polite load alone: p50 ${ms(p50)} ms, worst ${ms(worst)} ms, ${percent(this.#alone.cpu)} of a core, ` +
        `${mib(this.#before.memoryKib)} MiB`,
    );
  }

  /**
   * @param {readonly string[]} names of the concurrent attacks
   * @param {number} seconds
   */
  async attack(names, seconds) {
    const until = Date.now() + seconds * 1000;
    const abort = new AbortController();
    const isOver = () => abort.signal.aborted || Date.now() >= until;
    const fail = (/** @type {unknown} */ error) => {
      this.#failures.push(`${names.join(', ')}: ${error instanceof Error ? error.message : String(error)}`);
      abort.abort();
    };
    const wait = (/** @type {number} */ milliseconds) =>
      pause(Math.max(0, Math.min(milliseconds, until - Date.now())), undefined, {
        signal: abort.signal,
      }).catch(() => {});
    /** @type {{ p50: number, worst: number, operations: number }[]} */
    const polite = [];
    /** @type {number[]} */
    const memory = [];
    let slowestProbe = 0;
    const cpu = readCpu(this.#proxy.pid);
    const begun = Date.now();
    const attackers = await Promise.all(names.map((name, index) => this.#startAttacker(name, index)));
    await Promise.all(
      [
        async () => {
          while (!isOver())
            polite.push(
              await this.#polite(Math.max(1, Math.min(POLITE_SECONDS, (until - Date.now()) / 1000))),
            );
        },
        async () => {
          const ca = await readFile(this.#files.cert);
          for (; !isOver(); await wait(INNOCENT_MS)) {
            await innocentClient(this.#proxy.port, ca);
            this.#innocents += 1;
          }
        },
        async () => {
          for (; !isOver(); await wait(RENEWAL_MS)) await this.#renew();
        },
        async () => {
          for (; !isOver(); await wait(SAMPLE_MS)) memory.push(this.#proxy.memoryKib);
        },
        async () => {
          for (; !isOver(); await wait(PROBE_MS)) slowestProbe = Math.max(slowestProbe, await this.#probe());
        },
      ].map((task) => task().catch(fail)),
    );
    const ends = await Promise.all(attackers.map((attacker) => attacker.end()));
    const seconds_ = (Date.now() - begun) / 1000;
    const used = cpuSecondsBetween(cpu, readCpu(this.#proxy.pid));
    for (const [index, { strokes, outcomes }] of ends.entries()) {
      const what = Object.entries(outcomes).map(([outcome, count]) => `${count} ${outcome}`);
      console.log(`  ${names[index]}: ${strokes} strokes: ${what.join(', ')}`);
    }
    await this.#proxy.quiet(this.#before.descriptors).catch(fail);
    const quarter = Math.max(1, Math.floor(memory.length / 4));
    const [early, late] = [memory.slice(quarter, 2 * quarter), memory.slice(-quarter)].map(median);
    const grown = (late ?? 0) - (early ?? 0);
    if (memory.length >= 60 && grown > this.#run.workers * GROWTH_KIB)
      this.#failures.push(`memory has grown by ${mib(grown)} MiB while the attacks stayed the same`);
    if (slowestProbe > LIVENESS_MS_MAX)
      this.#failures.push(`liveness was answered after ${slowestProbe.toFixed(0)} ms`);
    const p50 = median(polite.map((one) => one.p50));
    const worst = Math.max(...polite.map((one) => one.worst));
    const calls = polite.reduce((sum, one) => sum + one.operations, 0);
    const strokes = ends.reduce((sum, end) => sum + end.strokes, 0);
    const extra = used - this.#alone.cpu * seconds_;
    console.log(
      [
        `${names.length === 1 ? names[0] : `${names.length} attacks at once`}, ${seconds_.toFixed(0)} s, ${strokes} strokes:`,
        `  polite load: ${calls} calls, p50 ${ms(p50)} ms (${(p50 / this.#alone.p50).toFixed(1)} x), ` +
          `worst ${ms(worst)} ms (${(worst / this.#alone.worst).toFixed(1)} x); liveness at most ${slowestProbe.toFixed(0)} ms`,
        `  proxy: ${percent(used / seconds_)} of a core, ${((1000 * extra) / strokes).toFixed(1)} ms per stroke; memory ` +
          `${mib(this.#before.memoryKib)} MiB before, ${mib(Math.max(0, ...memory))} at most, ${mib(this.#proxy.memoryKib)} after; ` +
          `descriptors ${this.#before.descriptors} before, ${this.#proxy.descriptors} after`,
      ].join('\n'),
    );
  }

  /** The proxy's own report, and its exit. */
  async finish() {
    for (const [name, labels] of /** @type {const} */ ([
      ['internal_errors_total', ''],
      ['tls_reloads_total', 'result="failure"'],
      ['worker_exits_total', ''],
      ['rpcs_in_flight', ''],
    ])) {
      const value = await this.#proxy.metric(name, labels);
      if (value !== 0) this.#failures.push(`${name}{${labels}} is ${value}`);
    }
    const dropped = await this.#proxy.metric('connections_dropped_total');
    const lines = await this.#proxy.metric('log_lines_dropped_total');
    console.log(
      `${this.#renewals} renewals; ${this.#innocents} innocent clients; ${dropped} connections refused by limits, ${lines} log lines dropped`,
    );
    const ended = await this.#proxy.stop();
    if (ended !== 'exit code 0') this.#failures.push(`the proxy ended with ${ended}`);
    return this.#failures;
  }

  stop() {
    for (const stop of this.#stops) stop();
  }

  /** @param {number} seconds */
  async #polite(seconds) {
    const { operations, p50_us, max_us } = await measureClient(
      ...[this.#run.load, 'rpc', POLITE, seconds, this.#proxy.port, this.#files.cert],
    );
    return { operations, p50: p50_us, worst: max_us };
  }

  /** The same pair again under another inode, as a renewal by rename makes it. */
  async #renew() {
    for (const path of [this.#files.key, this.#files.cert]) {
      await copyFile(path, `${path}.new`);
      await rename(`${path}.new`, path);
    }
    this.#renewals += 1;
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
    attacker.say(JSON.stringify({ ...this.#target, source: `127.0.0.${index + 2}` }));
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
