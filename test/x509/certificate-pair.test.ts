import { createPrivateKey } from 'node:crypto';
import { chmod, rm, writeFile } from 'node:fs/promises';

import { describe, expect, test } from 'vitest';

import type { Problem } from '../../src/config/model.js';
import { loadPair, type LoadedPair, type PairRole } from '../../src/x509/certificate-pair.js';
import { Authority, type IssueOptions, type Issued } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const NOW = new Date();
const DAY_MS = 86_400_000;

async function issue(options: IssueOptions = {}): Promise<Issued> {
  return (await Authority.create(await temporaryDirectory())).server(options);
}

interface Loaded {
  readonly pair: LoadedPair | undefined;
  readonly problems: readonly Problem[];
}

async function load(
  { certificatePath, keyPath }: Pick<Issued, 'certificatePath' | 'keyPath'>,
  role: PairRole = 'server',
  now = NOW,
): Promise<Loaded> {
  const problems: Problem[] = [];
  const setting = {
    certificate: { path: certificatePath, key: ['tls', 'certificate_path'] },
    key: { path: keyPath, key: ['tls', 'key_path'] },
  };
  const pair = await loadPair(setting, role, now, problems);
  return { pair, problems };
}

/** The one problem, as far as an operator sees it: where, and which words. */
function only({ pair, problems }: Loaded): string {
  expect(pair).toBeUndefined();
  expect(problems).toHaveLength(1);
  const [problem] = problems;
  expect(problem?.severity).toBe('error');
  return `${problem?.key.at(-1) ?? ''}: ${problem?.message ?? ''}`;
}

test('a valid pair is loaded, its chain in order, without warnings', async () => {
  const root = await Authority.create(await temporaryDirectory());
  const issued = await (
    await root.intermediate('intermediate')
  ).server({ dns: ['a.test'], ip: ['10.0.0.1'] });
  const { pair, problems } = await load(issued);
  expect(problems).toEqual([]);
  expect(pair?.names).toEqual({ dns: ['a.test'], ip: ['10.0.0.1'], uri: [] });
  expect(pair?.leaf.subject).toBe('CN=a.test');
  expect(pair?.certificatePem.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(pair?.certificatePem.replace(/\s/g, '')).toBe(issued.certificatePem.replace(/\s/g, ''));
});

test('what stands around the certificates is left out', async () => {
  const issued = await issue();
  await writeFile(issued.certificatePath, `subject=x\n${issued.keyPem}${issued.certificatePem}\ntrailer`);
  const { pair, problems } = await load(issued);
  expect(problems).toEqual([]);
  expect(pair?.certificatePem).not.toContain('PRIVATE KEY');
});

describe('the certificate', () => {
  test.each<[string, (issued: Issued) => Promise<void>, RegExp]>([
    ['missing', ({ certificatePath }) => rm(certificatePath), /^certificate_path: .*: no such file$/],
    [
      'empty',
      ({ certificatePath }) => writeFile(certificatePath, ''),
      /: holds no certificate; PEM is needed/,
    ],
    [
      'a key',
      ({ certificatePath, keyPem }) => writeFile(certificatePath, keyPem),
      /: holds no certificate; PEM is needed/,
    ],
    [
      'truncated',
      ({ certificatePath, certificatePem }) => writeFile(certificatePath, certificatePem.slice(0, 300)),
      /: truncated, a certificate has no END line$/,
    ],
    [
      'whole, with a truncated intermediate',
      ({ certificatePath, certificatePem }) =>
        writeFile(certificatePath, certificatePem + certificatePem.slice(0, 300)),
      /: truncated, a certificate has no END line$/,
    ],
    [
      'broken in the middle',
      ({ certificatePath, certificatePem }) =>
        writeFile(certificatePath, certificatePem.replace(/\n.{64}\n/, '\n')),
      /: certificate 1 cannot be parsed$/,
    ],
    [
      'followed by a broken one',
      ({ certificatePath, certificatePem }) =>
        writeFile(certificatePath, certificatePem + certificatePem.replace(/\n.{64}\n/, '\n')),
      /: certificate 2 cannot be parsed$/,
    ],
  ])('%s', async (_name, spoil, message) => {
    const issued = await issue();
    await spoil(issued);
    const problem = only(await load(issued));
    expect(problem).toMatch(/^certificate_path: /);
    expect(problem).toMatch(message);
  });

  test('a directory', async () => {
    const issued = await issue();
    const certificatePath = await temporaryDirectory();
    expect(only(await load({ ...issued, certificatePath }))).toBe(
      `certificate_path: ${certificatePath}: is a directory; expected a PEM file`,
    );
  });

  test('without a SAN: refused for a server, whatever its Common Name, and no matter for a client', async () => {
    const usages = ['serverAuth', 'clientAuth'] as const;
    const issued = await issue({ dns: [], ip: [], commonName: 'gitaly-a.internal', usages });
    expect(only(await load(issued))).toMatch(/has no Subject Alternative Name; .* ignore the Common Name/);
    expect((await load(issued, 'client')).problems).toEqual([]);
  });

  test('expired, and not valid yet: a warning with the date, and it is used', async () => {
    const notBefore = new Date('2026-01-01T00:00:00Z');
    const notAfter = new Date('2026-02-01T00:00:00Z');
    const issued = await issue({ notBefore, notAfter });
    const at = (now: Date): Promise<Loaded> => load(issued, 'server', now);
    const warnedAt = async (now: Date): Promise<string | undefined> => {
      const { pair, problems } = await at(now);
      expect(pair?.leaf.subject).toBe('CN=localhost');
      expect(problems).toMatchObject([{ severity: 'warning', key: ['tls', 'certificate_path'] }]);
      return problems[0]?.message;
    };
    expect(await warnedAt(new Date(notAfter.getTime() + 1))).toMatch(
      /expired on 2026-02-01T00:00:00\.000Z; renew it$/,
    );
    expect(await warnedAt(new Date(notBefore.getTime() - 1))).toMatch(
      /not valid before 2026-01-01T00:00:00\.000Z; is this machine's clock right\?$/,
    );
    expect((await at(notBefore)).problems).toEqual([]);
    expect((await at(notAfter)).problems).toEqual([]);
  });

  test('not for servers: refused for a server; not for clients: refused for a client', async () => {
    const forClients = await issue({ usages: ['clientAuth'] });
    expect(only(await load(forClients))).toMatch(
      /is not meant for a server: .* clients require serverAuth; /,
    );
    expect((await load(forClients, 'client')).problems).toEqual([]);
    const forServers = await issue({ usages: ['serverAuth'] });
    expect((await load(forServers)).problems).toEqual([]);
    expect(only(await load(forServers, 'client'))).toMatch(
      /; issue one with serverAuth and clientAuth where/,
    );
  });

  test('with an odd chain: a warning, and the pair is loaded', async () => {
    const issued = await issue();
    const other = await Authority.create(await temporaryDirectory(), 'other');
    await writeFile(issued.certificatePath, issued.certificatePem + other.caPem);
    const { pair, problems } = await load(issued);
    expect(pair).toBeDefined();
    expect(problems).toMatchObject([
      { severity: 'warning', message: expect.stringMatching(/CN=other has not issued any/) as unknown },
    ]);
  });
});

describe('the key', () => {
  test.each<[string, (issued: Issued) => Promise<void>, RegExp]>([
    ['missing', ({ keyPath }) => rm(keyPath), /: no such file$/],
    ['empty', ({ keyPath }) => writeFile(keyPath, '\n'), /: the file is empty$/],
    [
      'truncated',
      ({ keyPath, keyPem }) => writeFile(keyPath, keyPem.slice(0, 100)),
      /: no private key in PEM \(/,
    ],
    [
      'a certificate',
      ({ keyPath, certificatePem }) => writeFile(keyPath, certificatePem),
      /: no private key in PEM \(/,
    ],
    [
      'encrypted',
      ({ keyPath, keyPem }) =>
        writeFile(
          keyPath,
          createPrivateKey(keyPem).export({
            type: 'pkcs8',
            format: 'pem',
            cipher: 'aes-256-cbc',
            passphrase: 'secret',
          }),
        ),
      /: the key is encrypted; a key without a passphrase is needed$/,
    ],
    [
      'encrypted in the old form',
      ({ keyPath, keyPem }) =>
        writeFile(
          keyPath,
          createPrivateKey(keyPem).export({
            type: 'sec1',
            format: 'pem',
            cipher: 'aes-256-cbc',
            passphrase: 'secret',
          }),
        ),
      /: the key is encrypted; a key without a passphrase is needed$/,
    ],
  ])('%s', async (_name, spoil, message) => {
    const issued = await issue();
    await spoil(issued);
    const problem = only(await load(issued));
    expect(problem).toMatch(/^key_path: /);
    expect(problem).toMatch(message);
  });

  test('of another certificate', async () => {
    const [one, other] = [await issue(), await issue()];
    expect(only(await load({ certificatePath: one.certificatePath, keyPath: other.keyPath }))).toBe(
      `key_path: ${other.keyPath}: does not match the certificate in ${one.certificatePath}`,
    );
  });

  test('readable by others is a warning, and the pair is loaded', async () => {
    const issued = await issue();
    await chmod(issued.keyPath, 0o644);
    const { pair, problems } = await load(issued);
    expect(pair).toBeDefined();
    expect(problems).toMatchObject([
      {
        severity: 'warning',
        key: ['tls', 'key_path'],
        message: `${issued.keyPath}: readable by others; chmod 600 it`,
      },
    ]);
    await chmod(issued.keyPath, 0o640);
    expect((await load(issued)).problems).toEqual([]);
  });

  test('never stands in a message', async () => {
    const issued = await issue();
    const secret = issued.keyPem.split('\n')[1] ?? '';
    await writeFile(issued.keyPath, issued.keyPem.replace('BEGIN PRIVATE', 'BEGIN BROKEN'));
    expect(JSON.stringify((await load(issued)).problems)).not.toContain(secret);
  });
});

test('all problems of a pair are reported at once', async () => {
  const issued = await issue({
    dns: [],
    ip: [],
    notBefore: new Date(NOW.getTime() - 2 * DAY_MS),
    notAfter: new Date(NOW.getTime() - DAY_MS),
  });
  const { keyPath } = await issue();
  await chmod(keyPath, 0o604);
  const { problems } = await load({ ...issued, keyPath });
  expect(problems.map(({ message }) => message.replace(/^[^ ]+: /, ''))).toEqual([
    'readable by others; chmod 600 it',
    expect.stringMatching(/no Subject Alternative Name/),
    expect.stringMatching(/expired on/),
    expect.stringMatching(/does not match the certificate/),
  ]);
  const missing = await load({ certificatePath: '/nowhere/cert.pem', keyPath: '/nowhere/key.pem' });
  expect(missing.problems.map(({ key }) => key.at(-1))).toEqual(['certificate_path', 'key_path']);
});
