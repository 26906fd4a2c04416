import { X509Certificate } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { exportKey } from '../../../src/commands/certificates/keys.js';
import { runCertificatesCreate } from '../../../src/commands/certificates/run-create.js';
import { parseCommandLine } from '../../../src/commands/command-line.js';
import { isInstalled, shell, type CommandResult } from '../../support/shell.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';
import { days, issueRoot } from '../../x509/judge/hand-issued.js';

const NAMES = '--server localhost,127.0.0.1 gitaly-b.internal --client rails-1.internal';

/** A directory, and the command in it: `create` takes what follows DIR, separated by spaces. */
async function prepare() {
  const pki = join(await temporaryDirectory(), 'pki');
  return {
    pki,
    create: async (args: string): Promise<CommandResult> => {
      const words = args.split(' ').filter((word) => word !== '');
      const command = parseCommandLine(['certificates', 'create', pki, ...words]);
      if (command.command === 'usage error') return { exitCode: 2, output: command.message };
      if (command.command !== 'certificates create') throw new Error(`read as ${command.command}`);
      let output = '';
      const write = (text: string): void => void (output += text);
      const io = { now: new Date(), writeStdout: write, writeStderr: write };
      return { exitCode: await runCertificatesCreate(command.request, io), output };
    },
    read: (name: string): Promise<string> => readFile(join(pki, name), 'utf8'),
    certificate: async (name: string): Promise<X509Certificate> =>
      new X509Certificate(await readFile(join(pki, `${name}.pem`))),
  };
}

/** All files of a directory with their content, to see whether anything has changed. */
async function snapshot(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const name of (await readdir(directory)).sort())
    files.set(name, await readFile(join(directory, name), 'utf8'));
  return files;
}

test('an existing CA is used for further certificates', async () => {
  const { create, read, certificate } = await prepare();
  expect((await create('--ca-name Mine --server a.internal')).exitCode).toBe(0);
  const ca = await read('ca.pem');
  expect((await create('--ca-name Mine --server b.internal')).exitCode).toBe(0);
  expect(await read('ca.pem')).toBe(ca);
  const issued = await certificate('b.internal');
  expect(issued.issuer).toBe('CN=Mine');
  expect(issued.verify(new X509Certificate(ca).publicKey)).toBe(true);
});

test("an operator's own intermediate issues too, and what it issues carries it", async () => {
  const { pki, create, read } = await prepare();
  const lasting = { from: new Date(Date.now() - 1000), to: new Date(Date.now() + 500 * 86_400_000) };
  const root = await issueRoot({ ...lasting, key: 'rsa2048' });
  const own = await issueRoot({ ...lasting, subject: 'CN=own', by: root, key: 'rsa2048' });
  await mkdir(pki);
  await writeFile(join(pki, 'ca.pem'), own.pem + root.pem);
  await writeFile(join(pki, 'ca.key'), await exportKey(own.keys));
  expect((await create('--server a.internal')).exitCode).toBe(0);
  const pem = await read('a.internal.pem');
  expect(pem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(pem.replace(/\s/g, '')).toContain(own.pem.replace(/\s/g, ''));
  expect(new X509Certificate(pem).verify(own.certificate.publicKey)).toBe(true);
});

test('what has expired, or is no authority, issues nothing', async () => {
  const { pki, create } = await prepare();
  await mkdir(pki);
  for (const [more, words] of [
    [{ from: days(-1000), to: days(-900) }, /expired on/],
    [{ ca: false, from: days(-900), to: new Date(Date.now() + 86_400_000) }, /not that of an authority/],
  ] as const) {
    const own = await issueRoot(more);
    await writeFile(join(pki, 'ca.pem'), own.pem);
    await writeFile(join(pki, 'ca.key'), await exportKey(own.keys));
    const { exitCode, output } = await create('--server a.internal --days 1');
    expect([exitCode, output]).toEqual([1, expect.stringMatching(words)]);
  }
});

describe('nothing is overwritten unasked, and nothing is half-written', () => {
  test.each<[string, string, RegExp]>([
    [
      'an existing certificate, beside a new one',
      '--server new.internal localhost',
      /localhost\.pem already exists: --renew replaces it/,
    ],
    [
      'another name for the CA',
      '--server new.internal --ca-name Other',
      /is the authority "Gitaly CA" and not "Other"/,
    ],
    [
      'certificates that outlive the CA',
      '--server new.internal --days 3650',
      /no certificate may outlive it: use at most --days 36\d\d/,
    ],
    [
      'a client certificate renewed as a server certificate',
      '--server rails-1.internal --renew',
      /it is a client certificate, not a server certificate/,
    ],
  ])('%s', async (_name, args, words) => {
    const { pki, create } = await prepare();
    expect((await create(NAMES)).exitCode).toBe(0);
    const before = await snapshot(pki);
    const { exitCode, output } = await create(args);
    expect(exitCode).toBe(1);
    expect(output).toMatch(words);
    expect(output).toContain('nothing was written');
    expect(await snapshot(pki)).toEqual(before);
  });

  test('a key alone, a CA without its key, a key of another CA', async () => {
    const { pki, create } = await prepare();
    await mkdir(pki);
    await writeFile(join(pki, 'a.internal.key'), 'precious');
    expect((await create('--server a.internal')).output).toMatch(/a\.internal\.key already exists/);
    expect(await snapshot(pki)).toEqual(new Map([['a.internal.key', 'precious']]));

    expect((await create('--server b.internal')).exitCode).toBe(0);
    const key = await readFile(join(pki, 'b.internal.key'));
    await writeFile(join(pki, 'ca.key'), key);
    expect((await create('--server c.internal')).output).toMatch(
      /ca\.key: does not match the certificate in/,
    );
    await rm(join(pki, 'ca.key'));
    expect((await create('--server c.internal')).output).toMatch(/ca\.pem exists without .*ca\.key/);
    expect(await readdir(pki)).not.toContain('c.internal.pem');
  });

  test('an end within the writing leaves no file behind', async () => {
    const { pki, create } = await prepare();
    await mkdir(pki);
    // A name that is as long as a name of a file may be, and no longer: the file beside it cannot be made.
    const long = Array.from({ length: 4 }, () => 'a'.repeat(62)).join('.');
    const { exitCode, output } = await create(`--server good.internal ${long}`);
    expect([exitCode, output]).toEqual([1, expect.stringContaining('ENAMETOOLONG')]);
    expect(await readdir(pki)).toEqual([]);
  });
});

describe('--renew', () => {
  test('creates new certificates with new keys of the same type and the same names, and keeps the CA', async () => {
    const { create, certificate, read } = await prepare();
    expect((await create(`--key-type rsa ${NAMES}`)).exitCode).toBe(0);
    const [old, oldKey, ca] = [
      await certificate('localhost'),
      await read('localhost.key'),
      await read('ca.pem'),
    ];
    expect((await create('--renew')).output).toMatch(
      /localhost\.pem +server certificate, renewed: localhost, 127\.0\.0\.1/,
    );
    const renewed = await certificate('localhost');
    expect(renewed.subjectAltName).toBe(old.subjectAltName);
    expect(renewed.serialNumber).not.toBe(old.serialNumber);
    expect(renewed.publicKey.asymmetricKeyType).toBe('rsa');
    expect(await read('localhost.key')).not.toBe(oldKey);
    expect(await read('ca.pem')).toBe(ca);
    // Generating RSA keys takes seconds on a busy machine.
  }, 120_000);

  test('with the first name of one certificate renews only that, and keeps its other names', async () => {
    const { pki, create, certificate } = await prepare();
    expect((await create(NAMES)).exitCode).toBe(0);
    const before = await snapshot(pki);
    expect((await create('--server localhost,10.0.0.9 --renew')).exitCode).toBe(0);
    expect((await certificate('localhost')).subjectAltName).toBe(
      'DNS:localhost, IP Address:10.0.0.9, IP Address:127.0.0.1',
    );
    const after = await snapshot(pki);
    const changed = [...after]
      .filter(([name, content]) => before.get(name) !== content)
      .map(([name]) => name);
    expect(changed).toEqual(['localhost.key', 'localhost.pem']);
  });

  test('without anything to renew', async () => {
    const { create } = await prepare();
    expect((await create('--renew')).output).toMatch(/no authority to renew from/);
  });
});

test.each<[string, RegExp]>([
  ['', /nothing to create: give --server NAME/],
  ['--server a~b', /"a~b" is not a host name, an IP address or a URI/],
  ['--client *.internal', /a client certificate cannot have a wildcard name/],
  ['--server a.internal --client a.internal', /would use the same files, a\.internal\.pem/],
  ['--server ca', /would use the same files, ca\.pem/],
  ['--server a --days 0', /--days must be a whole number from 1 to 3650/],
  ['--server a --key-type dsa', /--key-type must be ec or rsa/],
])('wrong usage: %s', async (args, words) => {
  const { create } = await prepare();
  const { exitCode, output } = await create(args);
  expect(exitCode).toBe(2);
  expect(output).toMatch(words);
});

test('what is printed is Ruby, and names what was made', async ({ skip }) => {
  const { create } = await prepare();
  const { output } = await create(`${NAMES} --server *.eu.internal ::1`);
  expect(output).toContain("gitlab_rails['repositories_storages'] = {");
  expect(output).toContain("'default' => { 'gitaly_address' => 'tls://localhost:9999' },");
  expect(output).toContain("'gitaly_address' => 'tls://[::1]:9999' },");
  expect(output).toContain("certificate_path: '/etc/gitlab/ssl/cert.pem',");
  skip(!isInstalled('ruby'), 'ruby is not installed');
  const checked = await shell(`printf '%s' "$LINES_OF_GITLAB" | ruby -c`, { LINES_OF_GITLAB: output });
  expect(checked.exitCode).toBe(0);
});
