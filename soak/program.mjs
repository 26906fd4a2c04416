import { createWriteStream, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { stringify } from 'yaml';
import { startChild } from '../bench/children.mjs';
import { freePort, listening } from '../bench/ports.mjs';
import { processTree, readMemoryKib } from '../bench/proc.mjs';

const OURS = 'gitaly_tls_proxy_';
const POLL_MS = 50;
/** The timeout until the end of a load has arrived everywhere. */
const QUIET_MS = 60_000;

/** The built program, as its user runs it. */
export class Program {
  #child;
  /** The port of its metrics and probes. */
  adminPort;
  /** The port of its `tls://` listener. */
  port;

  /**
   * @param {import('../bench/children.mjs').Child} child
   * @param {number} port
   * @param {number} admin
   */
  constructor(child, port, admin) {
    this.#child = child;
    this.port = port;
    this.adminPort = admin;
  }

  /**
   * Starts it with one `tls://` listener, and waits until it listens; its log lies in the directory.
   * @param {string} program path of `dist/cli.js`
   * @param {string} directory a private one
   * @param {{ cert: string, key: string }} files
   * @param {number} backendPort
   * @param {Record<string, unknown>} [more] of the configuration
   * @returns {Promise<Program>}
   */
  static async start(program, directory, files, backendPort, more = {}) {
    const port = await freePort();
    const configuration = {
      tls: { certificate_path: files.cert, key_path: files.key },
      listeners: [{ listen: `tls://127.0.0.1:${port}`, forward: `tcp://127.0.0.1:${backendPort}` }],
      ...more,
    };
    return Program.serve(program, directory, configuration, port);
  }

  /**
   * The same with a configuration that is complete except for the admin port.
   * @param {string} program
   * @param {string} directory
   * @param {Record<string, unknown>} configuration
   * @param {number} port the value of `port`
   * @param {(log: import('node:stream').Readable) => void} [readLog] receives the log from its beginning
   */
  static async serve(program, directory, configuration, port, readLog = () => {}) {
    const admin = await freePort();
    const path = join(directory, 'config.yaml');
    await writeFile(path, stringify({ ...configuration, prometheus_listen_addr: `127.0.0.1:${admin}` }));
    const child = await startChild(process.execPath, [program, 'serve', '--config', path]);
    const { stdout } = child.process;
    if (stdout === null) throw new Error('the proxy has no pipes');
    readLog(stdout);
    stdout.pipe(createWriteStream(join(directory, 'proxy.log')));
    await listening(admin, child, 'the proxy');
    return new Program(child, port, admin);
  }

  /** Open descriptors, of all its processes. */
  get descriptors() {
    return this.pids.reduce((sum, pid) => sum + descriptorsOf(pid), 0);
  }

  /** The process that was started. */
  get pid() {
    return this.#child.pid;
  }

  /** All its processes, the primary first. */
  get pids() {
    return processTree(this.#child.pid);
  }

  /** KiB, of all its processes. */
  get memoryKib() {
    return readMemoryKib(this.#child.pid);
  }

  reload() {
    this.#child.process.kill('SIGHUP');
  }

  /**
   * The sum of a metric over all labels except those given; 0 without samples.
   * @param {string} name without the prefix
   * @param {string} [labels] as the text format writes one of them: `reason="reset"`
   * @returns {Promise<number>}
   */
  async metric(name, labels = '') {
    const response = await fetch(`http://127.0.0.1:${this.adminPort}/metrics`, {
      headers: { connection: 'close' },
    });
    const lines = (await response.text()).split('\n');
    return lines
      .filter((line) => line.startsWith(`${OURS}${name}{`) || line.startsWith(`${OURS}${name} `))
      .filter((line) => line.includes(labels))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
  }

  /**
   * Waits until no connection is open, and no more descriptors are than these.
   * @param {number} [descriptors]
   */
  async quiet(descriptors = Number.POSITIVE_INFINITY) {
    for (const deadline = Date.now() + QUIET_MS; Date.now() < deadline;) {
      if ((await this.metric('connections_active')) === 0 && this.descriptors <= descriptors) return;
      await pause(POLL_MS);
    }
    const open = await this.metric('connections_active');
    throw new Error(
      `${open} connections and ${this.descriptors} descriptors are open still after ${QUIET_MS / 1000} s`,
    );
  }

  /**
   * Ends it as a service manager does.
   * @returns {Promise<string>} how it ended: `exit code 0`
   */
  async stop() {
    this.#child.process.kill('SIGTERM');
    return this.#child.ended;
  }
}

/**
 * @param {number} pid
 * @returns {number} 0 if the process has ended
 */
function descriptorsOf(pid) {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}
