import { once } from 'node:events';
import { chmod, writeFile, symlink } from 'node:fs/promises';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { createServer, type TlsOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { exportKey } from '../../src/commands/certificates/keys.js';
import { Authority } from '../support/authority.js';
import { opensslServer, requiringClients } from '../support/openssl-server.js';
import { CLI } from '../support/proxy-process.js';
import { startSetup } from '../support/setup.js';
import { shell, type CommandResult } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { issueLeaf, issueRoot } from '../x509/judge/hand-issued.js';

const YEAR = { from: new Date(Date.now() - 60_000), to: new Date(Date.now() + 365.5 * 86_400_000) };

/** Runs the built program in a directory. */
function inspect(directory: string, args: string): Promise<CommandResult> {
  return shell(`cd '${directory}' && '${process.execPath}' '${CLI}' certificates inspect ${args}`);
}

interface Report {
  readonly errors: number;
  readonly warnings: number;
  readonly inspected: readonly {
    readonly place: string;
    readonly certificates: readonly Readonly<Record<string, unknown>>[];
    readonly private_key?: unknown;
    readonly tls?: unknown;
    readonly findings: readonly { readonly id: string; readonly sentence: string; readonly cure: string }[];
  }[];
}

function isReport(value: unknown): value is Report {
  return typeof value === 'object' && value !== null && 'inspected' in value;
}

/** The report for programs, and the exit code. */
async function report(directory: string, args: string) {
  const { exitCode, output } = await inspect(directory, `--json ${args}`);
  const parsed: unknown = JSON.parse(output);
  if (!isReport(parsed)) throw new Error(output);
  const ids = parsed.inspected.flatMap(({ findings }) => findings.map(({ id }) => id));
  return { exitCode, ids, ...parsed };
}

/** A directory with an authority, an intermediate, and a pair as Gitaly needs it. */
async function prepare() {
  const directory = await temporaryDirectory();
  const root = await issueRoot(YEAR);
  const intermediate = await issueRoot({ ...YEAR, subject: 'CN=intermediate', by: root });
  const leaf = await issueLeaf(intermediate, { ...YEAR, dns: ['localhost'], ip: ['127.0.0.1'] });
  const keyPem = await exportKey(leaf.keys);
  const write = (name: string, content: string, mode = 0o644): Promise<void> =>
    writeFile(join(directory, name), content, { mode });
  await write('ca.pem', root.pem);
  await write('cert.pem', leaf.pem + intermediate.pem);
  await write('key.pem', keyPem, 0o600);
  return { directory, root, intermediate, leaf, keyPem, write };
}

/** A TLS server that is none of ours, until the test ends. */
async function serve(options: TlsOptions): Promise<number> {
  const server = createServer(options);
  server.on('tlsClientError', () => undefined);
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not bound');
  return address.port;
}

test('a valid key pair with its authority is shown, without problems', async () => {
  const { directory, leaf } = await prepare();
  const { exitCode, output } = await inspect(directory, 'cert.pem key.pem ca.pem');
  expect(exitCode).toBe(0);
  for (const words of [
    /^cert\.pem: server certificate$/m,
    /^ {2}subject +CN=gitaly-a\.internal$/m,
    /^ {2}issuer +CN=intermediate$/m,
    /^ {2}names +localhost, 127\.0\.0\.1$/m,
    /^ {2}valid +20\d\d-\d\d-\d\d to 20\d\d-\d\d-\d\d \(365 days left\)$/m,
    /^ {2}key +EC prime256v1, signed with ecdsa-with-SHA256$/m,
    /^ {2}usages +key digitalSignature; extended serverAuth, clientAuth$/m,
    new RegExp(`^ {2}SHA-256 +${leaf.certificate.fingerprint256}$`, 'm'),
    /^ {2}chain +CN=intermediate, .*\n +issued by CN=root$/m,
    /^key\.pem: private key\n.*mode 0600, matches cert\.pem$/m,
    /^ca\.pem: authority$/m,
    /^no problems found$/m,
  ])
    expect(output).toMatch(words);
});

test('--json says the same to programs', async () => {
  const { directory, leaf } = await prepare();
  const { exitCode, errors, warnings, inspected } = await report(directory, 'cert.pem key.pem');
  expect({ exitCode, errors, warnings }).toEqual({ exitCode: 0, errors: 0, warnings: 0 });
  expect(inspected).toMatchObject([
    {
      place: 'cert.pem',
      kind: 'file',
      role: 'gitaly',
      certificates: [
        {
          subject: 'CN=gitaly-a.internal',
          issuer: 'CN=intermediate',
          names: { dns: ['localhost'], ip: ['127.0.0.1'], uri: [] },
          days_left: 365,
          public_key: 'EC prime256v1',
          signature_algorithm: 'ecdsa-with-SHA256',
          key_usage: ['digitalSignature'],
          extended_key_usage: ['serverAuth', 'clientAuth'],
          authority: false,
          fingerprint_sha256: leaf.certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
        },
        { subject: 'CN=intermediate', authority: true },
      ],
      private_key: null,
      findings: [],
    },
    { place: 'key.pem', private_key: { type: 'EC prime256v1', mode: '0600', belongs_to: ['cert.pem'] } },
  ]);
});

test('a certificate for serverAuth alone: what to issue instead; a warning, exit 0', async () => {
  const { directory, root, write } = await prepare();
  await write('only.pem', (await issueLeaf(root, { ...YEAR, usages: ['serverAuth'] })).pem);
  const { exitCode, output } = await inspect(directory, 'only.pem');
  expect(exitCode).toBe(0);
  expect(output).toMatch(
    /WARNING +the certificate has serverAuth as extended key usage: every verifier that follows/,
  );
  expect(output).toMatch(/→ issue one with serverAuth and clientAuth where it is a server's too/);
  expect(output).toMatch(/^0 errors, 1 warning$/m);
});

test("made by openssl with a Common Name alone: refused in the words that Gitaly's clients have for it", async () => {
  const directory = await temporaryDirectory();
  await shell(
    `cd '${directory}' && openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=gitaly.internal -keyout key.pem -out cert.pem`,
  );
  const { exitCode, output } = await inspect(directory, 'cert.pem key.pem');
  expect(exitCode).toBe(1);
  expect(output).toMatch(/ERROR +.*x509: certificate relies on legacy Common Name field/);
  expect(output).toMatch(/matches cert\.pem/);
});

describe('files', () => {
  test('a key of another certificate, and a key that others may read', async () => {
    const { directory, root, write } = await prepare();
    const other = await issueLeaf(root, YEAR);
    await write('other.key', await exportKey(other.keys), 0o600);
    await chmod(join(directory, 'other.key'), 0o644);
    const { exitCode, ids, inspected } = await report(directory, 'cert.pem other.key');
    expect([exitCode, ids]).toEqual([1, ['key_readable_by_others', 'key_mismatch']]);
    expect(inspected[1]?.findings[1]?.sentence).toBe('does not match the certificate in cert.pem');
    await chmod(join(directory, 'other.key'), 0o640);
    await write('other.pem', other.pem);
    expect((await report(directory, 'cert.pem other.pem other.key')).ids).toEqual(['key_readable_by_group']);
  });

  test('a chain in the wrong order, and one that misses its intermediate, by its name', async () => {
    const { directory, intermediate, leaf, write } = await prepare();
    await write('reversed.pem', intermediate.pem + leaf.pem);
    const reversed = await report(directory, 'reversed.pem key.pem');
    expect([reversed.exitCode, reversed.ids]).toEqual([1, ['chain_order', 'key_mismatch']]);
    await write('alone.pem', leaf.pem);
    expect((await report(directory, 'alone.pem')).ids).toEqual([]);
    const alone = await report(directory, 'alone.pem ca.pem');
    expect([alone.exitCode, alone.ids]).toEqual([1, ['missing_issuer']]);
    expect(alone.inspected[0]?.findings[0]?.cure).toMatch(/^append the certificate of CN=intermediate/);
  });

  test('a key in the certificate file, a byte order mark, DER, an empty file, none, text', async () => {
    const { directory, leaf, keyPem, write } = await prepare();
    await write('both.pem', leaf.pem + keyPem, 0o600);
    await write('bom.pem', `\u{feff}${leaf.pem}`);
    await writeFile(join(directory, 'cert.der'), leaf.certificate.raw);
    await write('empty.pem', '');
    await write('text.pem', 'hello');
    await write('cut.pem', leaf.pem.slice(0, 200));
    const of = async (name: string): Promise<string[]> => (await report(directory, name)).ids;
    expect(await of('both.pem')).toEqual(['key_in_certificate_file']);
    expect(await of('bom.pem')).toEqual(['misplaced_marker']);
    expect(await of('cert.der empty.pem none.pem text.pem cut.pem')).toEqual([
      'not_pem',
      'nothing_in_file',
      'unreadable_file',
      'nothing_in_file',
      'unreadable_file',
    ]);
  });

  test('a directory: the files in it that hold a certificate or a key; no word of a key', async () => {
    const { directory, keyPem, write } = await prepare();
    await write('README', 'not one of them');
    const { exitCode, output } = await inspect(directory, '.');
    expect([exitCode, output.match(/^\S+: .+$/gm)]).toEqual([
      0,
      ['ca.pem: authority', 'cert.pem: server certificate', 'key.pem: private key'],
    ]);
    expect(output).not.toContain(keyPem.split('\n')[1]);
  });

  test('a directory with a dangling link: it is named as a warning, and all other files are shown', async () => {
    const { directory } = await prepare();
    await symlink('nowhere.pem', join(directory, '5ed36f99.0'));
    const { exitCode, output } = await inspect(directory, '.');
    expect(exitCode).toBe(0);
    expect(output).toMatch(/5ed36f99\.0\n\s+WARNING\s+is skipped: no such file/u);
    expect(output.match(/^\S+: .+$/gm)).toEqual([
      'ca.pem: authority',
      'cert.pem: server certificate',
      'key.pem: private key',
    ]);
  });
});

describe('addresses', () => {
  test('what a server sends, as it sends it, whether or not it is trusted', async () => {
    const { directory, root, intermediate, leaf, keyPem } = await prepare();
    const stray = await issueRoot({ ...YEAR, subject: 'CN=stray' });
    const cert = [leaf, stray, intermediate].map(({ pem }) => pem).join('');
    const port = await serve({ cert, key: keyPem, ALPNProtocols: ['h2'] });
    const { exitCode, ids, inspected } = await report(directory, `tls://localhost:${port} ca.pem`);
    expect([exitCode, ids]).toEqual([0, ['unrelated_certificate']]);
    const [server] = inspected;
    expect(server?.certificates.map(({ subject }) => subject)).toEqual([
      'CN=gitaly-a.internal',
      'CN=stray',
      'CN=intermediate',
    ]);
    expect(server?.tls).toMatchObject({ version: 'TLSv1.3', alpn: 'h2', server_name: 'localhost' });
    expect(root.subject).toBe('CN=root');
  });

  test('a missing intermediate by its name, and another name than the one that was dialled', async () => {
    const { directory, root, leaf, keyPem } = await prepare();
    const alone = await serve({ cert: leaf.pem, key: keyPem });
    const missing = await report(directory, `https://localhost:${alone} ca.pem`);
    expect([missing.exitCode, missing.ids]).toEqual([1, ['missing_issuer']]);
    expect(missing.inspected[0]?.findings[0]?.sentence).toContain('CN=intermediate');
    const named = await issueLeaf(root, YEAR);
    const port = await serve({ cert: named.pem, key: await exportKey(named.keys) });
    const other = await report(directory, `tls://localhost:${port}`);
    expect(other.inspected[0]?.findings).toMatchObject([
      {
        id: 'name_mismatch',
        sentence: 'the certificate is not valid for localhost; the names that it has: gitaly-a.internal',
      },
    ]);
  });

  test('the proxy itself, which requires a client certificate: it is shown none, and needs none', async () => {
    const setup = await startSetup((ca: Authority) => ({
      tls: { client_auth: 'require', client_ca_path: ca.caPath },
    }));
    const { exitCode, inspected } = await report(setup.directory, `tls://127.0.0.1:${setup.port} ca.pem`);
    expect(exitCode).toBe(0);
    expect(inspected[0]?.certificates[0]).toMatchObject({ serial_number: setup.server.serialNumber });
    await setup.proxy.endsWithNothingLeaked();
  });

  test('a server of TLS 1.2 that breaks off for want of a client certificate has shown its own by then', async () => {
    const directory = await temporaryDirectory();
    const ca = await Authority.create(directory);
    const server = await ca.server();
    const port = await opensslServer(server, requiringClients(ca, '-tls1_2'));
    const { inspected } = await report(directory, `tls://localhost:${port} ca.pem`);
    expect(inspected[0]?.certificates[0]).toMatchObject({ serial_number: server.serialNumber });
  });

  test('nobody there, and no TLS there', async () => {
    const plain = createTcpServer((socket) => {
      socket.on('error', () => undefined);
      socket.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    onTestFinished(() => void plain.close());
    await once(plain.listen(0, '127.0.0.1'), 'listening');
    const address = plain.address();
    const port = address !== null && typeof address === 'object' ? address.port : 0;
    const spoken = await report('/', `tls://127.0.0.1:${port}`);
    expect([spoken.exitCode, spoken.ids]).toEqual([1, ['no_tls']]);
    plain.close();
    await once(plain, 'close');
    const silent = await report('/', `tls://127.0.0.1:${port}`);
    expect([silent.exitCode, silent.ids]).toEqual([1, ['unreachable']]);
  });
});

test.each<[string, RegExp]>([
  ['', /needs a file or an address/],
  ['tls://gitaly.internal', /tls:\/\/gitaly\.internal: /],
  ['tcp://127.0.0.1:8075', /this address does not use TLS; give a tls:\/\/ or https:\/\/ address/],
  ['--jsn cert.pem', /did you mean --json\?/],
])('wrong usage is exit code 2: %s', async (args, words) => {
  const { exitCode, output } = await inspect('/', args);
  expect([exitCode, output]).toEqual([2, expect.stringMatching(words)]);
});
