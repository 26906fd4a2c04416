import { EventEmitter, once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { expect, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { Authority } from '../support/authority.js';
import { startGrpcBackend } from '../support/backends.js';
import { GrpcClient } from '../support/grpc-client.js';
import { CLI, ProxyProcess } from '../support/proxy-process.js';
import { shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const SECRET = 'TOP-SECRET';
const PAUSE_MS = 50;

/** The program, as it is called in a shell. */
const PROGRAM = `'${process.execPath}' '${CLI}'`;

interface Written {
  readonly path: string;
  readonly text: string;
}

/** Imports a file and keeps what is printed; ports become free ones where `freePorts` says so. */
async function importFile(
  directory: string,
  name: string,
  content: string,
  { flags = '', freePorts = true } = {},
): Promise<Written> {
  const path = join(directory, `${name}.imported.yaml`);
  await writeFile(join(directory, name), content);
  const { exitCode, output } = await shell(
    `${PROGRAM} configuration import '${join(directory, name)}' ${flags} > '${path}'`,
  );
  expect({ exitCode, output }).toEqual({ exitCode: 0, output: '' });
  const text = await readFile(path, 'utf8');
  expect(text).not.toContain(SECRET);
  if (freePorts)
    await writeFile(path, text.replaceAll(/^(.*(?:listen|prometheus_listen_addr): .*):\d+$/gmu, '$1:0'));
  return { path, text };
}

async function expectValid({ path }: Written): Promise<void> {
  expect(await shell(`${PROGRAM} configuration validate '${path}'`)).toEqual({ exitCode: 0, output: '' });
}

async function call(address: URL, ca?: string): Promise<void> {
  const client = new GrpcClient(address, ca === undefined ? undefined : { ca });
  expect(await client.health()).toEqual(HEALTH_SERVING);
  client.close();
}

/** A `config.toml` of a Gitaly that does TLS by itself. */
async function configToml(directory: string, backend: URL, host = '127.0.0.1') {
  const ca = await Authority.create(directory);
  const { certificatePath, keyPath } = await ca.server();
  const text = `
    bin_dir = "/opt/gitlab/embedded/bin"
    listen_addr = "${backend.host}"
    tls_listen_addr = "${host}:9999"
    prometheus_listen_addr = "${host}:9236"
    [auth]
    token = "${SECRET}"
    [tls]
    certificate_path = "${certificatePath}"
    key_path = "${keyPath}"
    [[storage]]
    name = "default"
    path = "/var/opt/gitlab/git-data/repositories"`;
  return { ca, text };
}

test("Gitaly's side and its clients': what is imported is valid, is served, and calls pass through both", async () => {
  const directory = await temporaryDirectory();
  const backend = new URL(await startGrpcBackend());
  const { ca, text } = await configToml(directory, backend);
  const gitaly = await importFile(directory, 'config.toml', text);
  await expectValid(gitaly);
  const gitalysSide = await ProxyProcess.start({ args: ['serve', '--config', gitaly.path] });
  const { port } = await gitalysSide.address('tls://127.0.0.1:0');
  await call(new URL(`tls://127.0.0.1:${port}`), ca.caPem);

  // Rails names the same Gitaly in either file; one by gitlab.yml, one by gitlab.rb.
  const address = `tls://localhost:${port}`;
  const files = {
    'gitlab.yml': `production:\n  gitaly: { token: ${SECRET} }\n  repositories: { storages: { yml: { gitaly_address: '${address}' } } }\n`,
    'gitlab.rb': `gitlab_rails['gitaly_token'] = '${SECRET}'\ngitlab_rails['repositories_storages'] = { 'rb' => { 'gitaly_address' => '${address}' } }\n`,
  };
  const throughClientsSide = async (name: string, content: string): Promise<void> => {
    const clients = await importFile(directory, name, content, {
      flags: `--socket-directory '${directory}'`,
    });
    // The authority is not in the store of the system: what is commented out for that is put in.
    const withCa = (await readFile(clients.path, 'utf8'))
      .replace('# upstream_tls:', 'upstream_tls:')
      .replace(/#( {3}ca_path: )\S+/u, `$1${ca.caPath}`);
    await writeFile(clients.path, withCa);
    await expectValid(clients);
    const clientsSide = await ProxyProcess.start({ args: ['serve', '--config', clients.path] });
    await call(new URL(`unix:${directory}/${name.slice('gitlab.'.length)}.socket`));
    await clientsSide.endsWithNothingLeaked();
  };
  await Promise.all(Object.entries(files).map(([name, content]) => throughClientsSide(name, content)));
  await gitalysSide.endsWithNothingLeaked();
});

test('the steps, done as they are printed: no call fails while the port passes from Gitaly to the proxy', async () => {
  const directory = await temporaryDirectory();
  const backend = new URL(await startGrpcBackend());
  // An address of this process alone, so that ports on it are free.
  const host = `127.${1 + (process.pid % 200)}.${(process.pid >> 8) % 250}.${1 + Number(process.hrtime.bigint() % 250n)}`;
  const { ca, text } = await configToml(directory, backend, host);
  const imported = await importFile(directory, 'config.toml', text, { freePorts: false });

  // Gitaly's own TLS, for which a proxy stands.
  const ownCertificate = await ca.server();
  const own = await ProxyProcess.start({
    configuration: {
      tls: { certificate_path: ownCertificate.certificatePath, key_path: ownCertificate.keyPath },
      listeners: [{ listen: `tls://${host}:9999`, forward: backend.href }],
    },
  });
  const clients = new Clients(new URL(`tls://${host}:9999`), ca.caPem);
  await clients.oneMoreCall();

  // "Save this as …, and run a copy that listens on port 9998."
  const copyPath = join(directory, 'gitaly-tls-proxy-9998.yaml');
  const sed = /^# {9}(sed (?:.*\\\n)+.*)$/mu.exec(imported.text)?.[1]?.replaceAll(/^# */gmu, '') ?? '';
  const commands = sed
    .replaceAll('/etc/gitaly-tls-proxy.yaml', imported.path)
    .replaceAll('/etc/gitaly-tls-proxy-9998.yaml', copyPath);
  expect(await shell(commands)).toEqual({ exitCode: 0, output: '' });
  await expectValid({ path: copyPath, text: '' });
  const copy = await ProxyProcess.start({ args: ['serve', '--config', copyPath] });
  await clients.moveTo(new URL(`tls://${host}:9998`));

  // Gitaly gives its port up, and the proxy takes it.
  own.signal('SIGTERM');
  expect(await own.exited).toBe(0);
  await clients.oneMoreCall();
  await expectValid(imported);
  const proxy = await ProxyProcess.start({ args: ['serve', '--config', imported.path] });
  await clients.moveTo(new URL(`tls://${host}:9999`));
  copy.signal('SIGTERM');
  expect(await copy.exited).toBe(0);
  await clients.oneMoreCall();
  await clients.end();
  await proxy.endsWithNothingLeaked();
});

/** Clients that call all the time, one after another, each on a connection of its own; and of which none may fail. */
class Clients {
  #address: URL;
  #ended = false;
  readonly #calls = new EventEmitter();
  readonly #done: Promise<void>;

  constructor(
    address: URL,
    private readonly ca: string,
  ) {
    this.#address = address;
    this.#done = this.#run();
    this.#done.catch(() => undefined);
  }

  /** Waits until a call that has begun after this has had its answer. */
  async oneMoreCall(): Promise<void> {
    for (let call = 0; call < 2; call += 1) await Promise.race([once(this.#calls, 'answered'), this.#done]);
  }

  async moveTo(address: URL): Promise<void> {
    this.#address = address;
    await this.oneMoreCall();
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      await call(this.#address, this.ca);
      this.#calls.emit('answered');
      // Calls without a pause would take the processor from the programs that are being started.
      await delay(PAUSE_MS);
    }
  }
}

test('a file that yields no configuration: exit code 2, one line on stderr, nothing on stdout', async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'gitlab.rb'), `gitaly['listen_addr'] = "#{'${SECRET}'}"\nx = "${SECRET}\n`);
  const { exitCode, output } = await shell(`cd '${directory}' && ${PROGRAM} configuration import gitlab.rb`);
  expect(exitCode).toBe(2);
  expect(output).toBe('gitlab.rb:2: this Ruby cannot be analysed: a string is not closed\n');
  const missing = await shell(`${PROGRAM} configuration import '${directory}/none.toml'`);
  expect(missing).toEqual({
    exitCode: 2,
    output: `${directory}/none.toml: the file cannot be read: no such file\n`,
  });
  expect((await shell(`${PROGRAM} configuration import --only rails </dev/null`)).exitCode).toBe(2);
});

test('a file in UTF-16, as editors and shells of Windows write it, is read', async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, 'config.toml');
  await writeFile(path, Buffer.from('\u{feff}listen_addr = "127.0.0.1:8075"\r\n', 'utf16le'));
  const { exitCode, output } = await shell(`${PROGRAM} configuration import '${path}'`);
  expect({ exitCode, output }).toEqual({
    exitCode: 0,
    output: expect.stringContaining('forward: tcp://127.0.0.1:8075') as string,
  });
});

test('what is not read is told on stderr, and the configuration is printed; stdin will do', async () => {
  const text = `gitaly['configuration'] = {\n  listen_addr: "127.0.0.1:8075",\n  auth: { token: ENV["${SECRET}"] },\n  prometheus_listen_addr: ":9236",\n  socket_path: ENV["${SECRET}"],\n}\n`;
  const directory = await temporaryDirectory();
  const { exitCode, output } = await shell(
    `cd '${directory}' && printf '%s' '${text.replaceAll("'", `'\\''`)}' | ${PROGRAM} configuration import > out.yaml`,
  );
  expect(exitCode).toBe(0);
  expect(output).toBe(
    "<stdin>:5: warning: gitaly['configuration'].socket_path: not imported: it is computed: from the environment\n" +
      "<stdin>:4: warning: gitaly['configuration'].prometheus_listen_addr: imported: every machine that can connect to port 9237 can read " +
      'the metrics and the admin pages, which contain clients and repositories. Allow only Prometheus in the firewall, or change it to 127.0.0.1:9237\n',
  );
  const printed = await readFile(join(directory, 'out.yaml'), 'utf8');
  expect(printed).toContain("line 5: gitaly['configuration'].socket_path: it is computed");
  expect(printed).not.toContain(SECRET);
});
