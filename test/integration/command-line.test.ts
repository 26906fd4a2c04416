import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { RawBackend } from '../support/backends.js';
import { tcpClient, tlsClient } from '../support/clients.js';
import { CLI, ProxyProcess } from '../support/proxy-process.js';
import { shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program to its end. */
async function run(...args: readonly string[]): Promise<Outcome> {
  const program = await ProxyProcess.spawn({ args });
  const code = await program.exited;
  return { code, stdout: program.log.text, stderr: program.stderr.text };
}

/** A port that somebody else listens on. */
async function takenPort(): Promise<number> {
  const squatter = createServer();
  squatter.listen(0, '127.0.0.1');
  await once(squatter, 'listening');
  onTestFinished(() => void squatter.close());
  const address = squatter.address();
  if (address === null || typeof address === 'string') throw new Error('the port was not taken');
  return address.port;
}

/** Writes a configuration as it stands and returns its path. */
async function file(text: string): Promise<string> {
  const path = join(await temporaryDirectory(), 'gitaly-tls-proxy.yaml');
  await writeFile(path, text);
  return path;
}

describe('the program prints its commands and flags', () => {
  test.each([
    [['--help']],
    [['serve', '--help']],
    [['demo', '--help']],
    [['configuration', 'validate', '--help']],
  ])('%j prints its usage, exit 0', async (args) => {
    const { code, stdout, stderr } = await run(...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('Usage: gitaly-tls-proxy');
    expect(stdout).toContain('--help, -h');
  });

  test('--version prints the version of the package, exit 0', async () => {
    const manifest: unknown = JSON.parse(
      await readFile(new URL('../../package.json', import.meta.url), 'utf8'),
    );
    const { code, stdout } = await run('--version');
    expect(code).toBe(0);
    expect(manifest).toMatchObject({ version: /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0] });
  });
});

describe('wrong usage prints one line with the right usage, exit 2', () => {
  test.each([
    [['serve', '--lisen', 'tls://127.0.0.1:0'], 'unknown flag --lisen; did you mean --listen?'],
    [['--confg', 'x.yaml'], 'unknown flag --confg; did you mean --config?'],
    [['serv'], 'serve'],
    [['configuration', 'validat'], 'validate'],
    [['serve', '--listen', 'tls://127.0.0.1:0'], '--forward'],
    [['serve', '--listen', 'http://127.0.0.1:0', '--forward', 'tcp://127.0.0.1:1'], 'for HTTP, both must be'],
    [['serve', '--listen', 'tcp://127.0.0.1:0', '--forward', 'http://127.0.0.1:1'], 'for HTTP, both must be'],
    [['serve', '--config', '/nowhere/gitaly-tls-proxy.yaml'], '/nowhere/gitaly-tls-proxy.yaml'],
    [['serve', '--config', '/'], 'it is a directory, not a file'],
  ])('%j', async (args, words) => {
    const { code, stdout, stderr } = await run(...args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(words);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});

describe('serve from flags alone', () => {
  test('with pairs of --listen and --forward, client certificates and metrics; serve is the default command', async () => {
    const directory = await temporaryDirectory();
    const [ca, clients] = [await Authority.create(directory), await Authority.create(directory, 'clients')];
    const [server, client] = [await ca.server(), await clients.client()];
    const [one, two] = [await RawBackend.start(), await RawBackend.start()];
    const proxy = await ProxyProcess.start({
      args: [
        ...['--listen', 'tls://127.0.0.1:0', '--forward', one.url],
        ...['--listen', 'tcp://127.0.0.1:0', '--forward', two.url],
        ...['--cert', server.certificatePath, '--key', server.keyPath],
        ...['--client-ca', clients.caPath, '--client-auth', 'require'],
        ...['--prometheus-listen-addr', '127.0.0.1:0'],
      ],
    });
    const identified = await tlsClient(await proxy.port('tls://127.0.0.1:0'), {
      ca: ca.caPem,
      cert: client.certificatePem,
      key: client.keyPem,
    });
    const plain = await tcpClient(await proxy.port('tcp://127.0.0.1:0'));
    const upstreams = [await connected(identified, one), await connected(plain, two)];
    const stranger = await tlsClient(await proxy.port('tls://127.0.0.1:0'), { ca: ca.caPem });
    stranger.resume();
    await proxy.log.waitForClose('client_certificate_refused');
    expect((await proxy.scrape()).value('gitaly_connections_total', { type: 'tls' })).toBe(2);

    for (const socket of [identified, plain]) socket.destroy();
    for (const { socket } of upstreams) socket.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('a reason not to start is printed in one line', () => {
  test('a port that is taken: one line, exit 1', async () => {
    const taken = `tcp://127.0.0.1:${await takenPort()}`;
    const { code, stderr } = await run('--listen', taken, '--forward', 'tcp://127.0.0.1:1');
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`^gitaly-tls-proxy: cannot listen on ${taken}: .*EADDRINUSE.*\n$`));
  });

  test("a port that is taken where the metrics should be: one line with the setting's name, exit 1", async () => {
    const taken = `127.0.0.1:${await takenPort()}`;
    const { code, stderr } = await run(
      ...['--listen', 'tcp://127.0.0.1:0', '--forward', 'tcp://127.0.0.1:1'],
      ...['--prometheus-listen-addr', taken],
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(
      new RegExp(`^gitaly-tls-proxy: cannot listen on prometheus_listen_addr ${taken}: .*EADDRINUSE.*\n$`),
    );
  });

  test('a configuration with mistakes: file, line, key, value and what would be right for each, exit 2', async () => {
    const path = await file(
      'listeners:\n  - listen: tcp://127.0.0.1:0\n    forward: ftp://x:1\nmax_connections: many\nlogging: { level: loud }\n',
    );
    const { code, stderr } = await run('serve', '--config', path);
    expect(code).toBe(2);
    const lines = stderr.trim().split('\n');
    expect(lines).toHaveLength(3);
    for (const words of [`${path}:3`, 'listeners[0].forward', 'ftp://x:1', 'tcp://'])
      expect(lines[0]).toContain(words);
    for (const words of [`${path}:4`, 'max_connections', 'many', 'whole number'])
      expect(lines[1]).toContain(words);
    for (const words of [`${path}:5`, 'logging.level', 'loud', 'info']) expect(lines[2]).toContain(words);
  });

  test('certificate files that are not there: a line for each with its flag, exit 2', async () => {
    const { code, stderr } = await run(
      ...['--listen', 'tls://127.0.0.1:0', '--forward', 'tcp://127.0.0.1:1'],
      ...['--cert', '/nowhere/cert.pem', '--key', '/nowhere/key.pem'],
    );
    expect(code).toBe(2);
    const lines = stderr.trim().split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[0]).toContain('--cert: /nowhere/cert.pem: no such file');
    expect(lines[1]).toContain('--key: /nowhere/key.pem: no such file');
  });

  test('a file that is not YAML: the line of the fault, exit 2', async () => {
    const path = await file('listeners:\n  - listen: "tls://\n');
    const { code, stderr } = await run('serve', '--config', path);
    expect(code).toBe(2);
    expect(stderr).toContain(path);
  });
});

describe('configuration validate', () => {
  test('a valid file prints nothing, exit 0; a key that others can read is a warning', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const { certificatePath, keyPath } = await ca.server();
    const path = await file(
      `tls: { certificate_path: ${certificatePath}, key_path: ${keyPath} }\n` +
        'listeners: [{ listen: "tls://127.0.0.1:0", forward: "tcp://127.0.0.1:1" }]\n',
    );
    expect(await run('configuration', 'validate', path)).toEqual({ code: 0, stdout: '', stderr: '' });
    await chmod(keyPath, 0o644);
    const { code, stdout, stderr } = await run('configuration', 'validate', path);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toContain(keyPath);
    expect(stderr).toMatch(/others|chmod/);
  });

  test('reads stdin without FILE', async () => {
    const path = await file('listeners:\n  - listen: tcp://127.0.0.1:0\n    forward: nowhere\n');
    const validate = (target: string) =>
      shell('"$NODE" "$CLI" configuration validate < "$TARGET"', {
        NODE: process.execPath,
        CLI,
        TARGET: target,
      });
    const { exitCode, output } = await validate(path);
    expect(exitCode).toBe(2);
    const report: unknown = JSON.parse(output);
    expect(report).toMatchObject({
      errors: [{ key: ['listeners', 0, 'forward'], line: 3, value: 'nowhere', file: '<stdin>' }],
    });
    await writeFile(path, 'listeners:\n  - listen: tcp://127.0.0.1:0\n    forward: tcp://127.0.0.1:1\n');
    expect(await validate(path)).toEqual({ exitCode: 0, output: '' });
  });

  test('lists all problems at once with line and key, those of the certificate files too, exit 2', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const [pair, other] = [await ca.server(), await ca.server()];
    const nameless = await ca.server({ dns: [], ip: [], commonName: 'gitaly.internal' });
    const gone = await ca.server();
    await rm(gone.keyPath);
    const bad: readonly [name: string, certificate: string, key: string, words: RegExp][] = [
      ['mismatch', pair.certificatePath, other.keyPath, /does not match/],
      ['nameless', nameless.certificatePath, nameless.keyPath, /SAN|subject alternative name/i],
      ['gone', gone.certificatePath, gone.keyPath, /no such file|ENOENT/],
    ];
    const path = await file(
      `listeners:\n${bad
        .map(
          ([, certificate, key], index) =>
            `  - listen: tls://127.0.0.${index + 1}:0\n    forward: tcp://127.0.0.1:1\n` +
            `    tls: { certificate_path: ${certificate}, key_path: ${key} }\n`,
        )
        .join('')}surprise: 1\n`,
    );
    const { code, stdout } = await run('configuration', 'validate', path);
    expect(code).toBe(2);
    const report: unknown = JSON.parse(stdout);
    const errors = errorsOf(report);
    expect(errors.find(({ key }) => key[0] === 'surprise')).toMatchObject({ line: 2 + bad.length * 3 });
    for (const [index, [name, , , words]] of bad.entries()) {
      const found = errors.filter(({ key }) => key[0] === 'listeners' && key[1] === index);
      expect(found, name).toHaveLength(1);
      expect(found[0]?.message, name).toMatch(words);
      expect(found[0]?.line, name).toBe(2 + index * 3 + 2);
    }
  });

  test('warns of a certificate that is out of date, exit 0: a start does not fail because of it', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const day = 86_400_000;
    const expired = await ca.server({
      notBefore: new Date(Date.now() - 20 * day),
      notAfter: new Date(Date.now() - day),
    });
    const early = await ca.server({ notBefore: new Date(Date.now() + day) });
    for (const [{ certificatePath, keyPath }, words] of [
      [expired, /warning: .*expired on/],
      [early, /warning: .*is not valid before/],
    ] as const) {
      const path = await file(
        'listeners:\n  - listen: tls://127.0.0.1:0\n    forward: tcp://127.0.0.1:1\n' +
          `    tls: { certificate_path: ${certificatePath}, key_path: ${keyPath} }\n`,
      );
      const { code, stdout, stderr } = await run('configuration', 'validate', path);
      expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
      expect(stderr).toMatch(words);
    }
  });
});

interface Reported {
  readonly key: readonly unknown[];
  readonly message: string;
  readonly line: unknown;
}

function errorsOf(report: unknown): Reported[] {
  if (typeof report !== 'object' || report === null || !('errors' in report) || !Array.isArray(report.errors))
    throw new Error(`no report: ${JSON.stringify(report)}`);
  return report.errors.map((error: unknown) => {
    const { key, message, line } = Object(error) as Record<string, unknown>;
    return { key: Array.isArray(key) ? key : [], message: String(message), line };
  });
}
