import 'reflect-metadata';

import { once } from 'node:events';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';

import * as x509 from '@peculiar/x509';
import { describe, expect, test } from 'vitest';

import { Authority, type Issued } from '../support/authority.js';
import {
  BACKCHANNEL_PREFACE,
  readToEnd,
  speaking,
  tcpClient,
  TLS_VERSIONS,
  tlsClient,
} from '../support/clients.js';
import type { LogLine } from '../support/log-lines.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, type Setup } from '../support/setup.js';
import { isInstalled, shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { nameConstraints } from '../tls/judge/hand-issued.js';

const DAY_MS = 86_400_000;
const RESULTS = 'gitaly_tls_proxy_tls_client_certificates_total';

function presenting(issued: Issued): ConnectionOptions {
  return { cert: issued.certificatePem, key: issued.keyPem };
}

function requiring(ca: Authority) {
  return { tls: { client_auth: 'require', client_ca_path: ca.caPath } };
}

/** A client that must be refused: it gets nothing. Returns what the log says. */
async function refused({ ca, proxy, port }: Setup, options: ConnectionOptions): Promise<LogLine> {
  const raw = await tcpClient(port);
  const address = `127.0.0.1:${raw.localPort ?? 0}`;
  // In TLS 1.3 the handshake is over for the client when it is refused, in TLS 1.2 it may see either.
  const client = await tlsClient(port, { socket: raw, ca: ca.caPem, ...options }).catch(() => undefined);
  if (client) {
    client.write(BACKCHANNEL_PREFACE);
    expect((await readToEnd(client)).received).toHaveLength(0);
  }
  const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
  expect(line).toMatchObject({
    level: 'warning',
    'close.reason': 'client_certificate_refused',
    'close.initiator': 'proxy',
  });
  expect(line).not.toHaveProperty('peer.identity');
  return line;
}

/** A client that must be let in: a preface reaches the backend, an answer comes back, both sides finish. */
async function admitted({ ca, backend, proxy, port }: Setup, options: ConnectionOptions) {
  const client = await tlsClient(port, { ca: ca.caPem, ...options });
  const address = `127.0.0.1:${client.localPort ?? 0}`;
  client.write(BACKCHANNEL_PREFACE);
  const upstream = await backend.accept();
  expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
  upstream.socket.write('an answer');
  // In TLS 1.3 the session comes after the handshake: with the answer it is there.
  await once(client, 'data');
  const session = client.getSession();
  client.end();
  await upstream.ended;
  upstream.socket.end();
  await once(client.resume(), 'close');
  const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
  expect(line['close.reason']).toBe('finished');
  if (!session) throw new Error('the server handed out no session');
  return { line, session };
}

async function expectCounted(proxy: ProxyProcess, results: Readonly<Record<string, number>>): Promise<void> {
  const scrape = await proxy.scrape();
  for (const [result, count] of Object.entries(results)) {
    expect(scrape.value(RESULTS, { result }), result).toBe(count);
  }
  const all = Object.values(results).reduce((sum, count) => sum + count, 0);
  expect(scrape.value(RESULTS)).toBe(all);
}

type Client = (ca: Authority) => Promise<ConnectionOptions>;

/** What is refused whatever the CRL: the result, what the log must say, and who comes. */
const BAD: readonly [string, string, RegExp, Client][] = [
  [
    'of a wrong CA',
    'unknown_authority',
    /CN=client\.test, issued by CN=other: its chain does not end in a CA of client_ca_path/,
    async () => presenting(await (await Authority.create(await temporaryDirectory(), 'other')).client()),
  ],
  [
    'expired',
    'expired',
    /CN=client\.test, issued by CN=ca: expired; its own dates are \d{4}-/,
    async (ca) =>
      presenting(
        await ca.client({
          notBefore: new Date(Date.now() - 2 * DAY_MS),
          notAfter: new Date(Date.now() - DAY_MS),
        }),
      ),
  ],
  [
    'not yet valid',
    'not_yet_valid',
    /CN=client\.test, issued by CN=ca: not valid before \d{4}-/,
    async (ca) => presenting(await ca.client({ notBefore: new Date(Date.now() + DAY_MS) })),
  ],
  [
    'not meant for client use',
    'invalid_purpose',
    /its extended key usage must hold clientAuth/,
    async (ca) => presenting(await ca.client({ usages: ['serverAuth'] })),
  ],
  [
    'for a name that an authority above it may not issue for',
    'name_constraints',
    /issued by CN=limited: a CA above it may not issue for its names \(PERMITTED_VIOLATION\)/,
    async (ca) =>
      presenting(await (await ca.intermediate('limited', [nameConstraints(['other.test'])])).client()),
  ],
  [
    'with a critical extension that nobody knows',
    'critical_extension',
    /has a critical extension that OpenSSL does not know \(UNHANDLED_CRITICAL_EXTENSION\)/,
    async (ca) =>
      presenting(
        await ca.client({
          extensions: [new x509.Extension('1.3.6.1.4.1.99999.1', true, new Uint8Array([5, 0]))],
        }),
      ),
  ],
  [
    'whose intermediate allows no other below it',
    'invalid_authority',
    /one of its issuers may not issue it \(PATH_LENGTH_EXCEEDED\)/,
    async (ca) => {
      const last = new x509.BasicConstraintsExtension(true, 0, true);
      const upper = await ca.intermediate('upper', [last]);
      return presenting(await (await upper.intermediate('lower')).client());
    },
  ],
  [
    'without its intermediate',
    'unknown_authority',
    /issued by CN=intermediate: .*a missing intermediate looks the same/,
    async (ca) => {
      const issued = await (await ca.intermediate('intermediate')).client();
      const [leaf = ''] = issued.certificatePem.split(/(?<=-----END CERTIFICATE-----)/);
      return { cert: leaf, key: issued.keyPem };
    },
  ],
];

describe('client_auth: require refuses, before a byte reaches Gitaly, and with its own reason in log and metric,', () => {
  test('no certificate, in TLS 1.2 and 1.3', async () => {
    const setup = await startSetup(requiring);
    for (const version of TLS_VERSIONS) {
      const line = await refused(setup, speaking(version));
      expect(line['close.detail']).toMatch(/sent no certificate and client_auth is require/);
      expect(line['tls.version']).toBe(version);
    }
    expect(setup.backend.connections).toHaveLength(0);
    await expectCounted(setup.proxy, { absent: 2 });
    await setup.proxy.endsWithNothingLeaked();
  });

  test.each(BAD)('a certificate %s, in TLS 1.2 and 1.3', async (_name, result, detail, client) => {
    const setup = await startSetup(requiring);
    const options = await client(setup.ca);
    for (const version of TLS_VERSIONS) {
      const line = await refused(setup, { ...speaking(version), ...options });
      expect(line['close.detail']).toMatch(detail);
    }
    expect(setup.backend.connections).toHaveLength(0);
    await expectCounted(setup.proxy, { [result]: 2 });
    await setup.proxy.endsWithNothingLeaked();
  });

  test('a certificate that is revoked, in TLS 1.2 and 1.3', async () => {
    const revoked: Issued[] = [];
    const setup = await startSetup(async (ca) => {
      revoked.push(await ca.client());
      const client_crl_path = await ca.revocationList(revoked.map(({ serialNumber }) => serialNumber));
      return { tls: { ...requiring(ca).tls, client_crl_path } };
    });
    for (const issued of revoked) {
      for (const version of TLS_VERSIONS) {
        const line = await refused(setup, { ...speaking(version), ...presenting(issued) });
        expect(line['close.detail']).toMatch(/revoked by client_crl_path \(CERT_REVOKED\)/);
      }
    }
    expect(setup.backend.connections).toHaveLength(0);
    await admitted(setup, presenting(await setup.ca.client()));
    await expectCounted(setup.proxy, { revoked: 2, verified: 1 });
    await setup.proxy.endsWithNothingLeaked();
  });

  // Node presents no such certificate itself.
  test.runIf(isInstalled('openssl'))('a certificate that is signed with SHA-1', async () => {
    const setup = await startSetup(requiring);
    const { certificatePath, keyPath } = await setup.ca.client({ hash: 'SHA-1' });
    const to = `-connect 127.0.0.1:${setup.port} -servername localhost -alpn h2 -cipher DEFAULT@SECLEVEL=0`;
    await shell(`openssl s_client ${to} -cert '${certificatePath}' -key '${keyPath}' </dev/null`);
    const line = await setup.proxy.log.waitForClose('client_certificate_refused');
    expect(line['close.detail']).toMatch(/signed with SHA-1 or MD5 \(CA_MD_TOO_WEAK\)/);
    await expectCounted(setup.proxy, { weak_signature: 1 });
    await setup.proxy.endsWithNothingLeaked();
  });

  test('a certificate whose CA has no revocation list where there are such lists', async () => {
    const directory = await temporaryDirectory();
    const listed = await Authority.create(directory, 'listed');
    const setup = await startSetup(async (ca) => {
      const client_ca_path = join(directory, 'both.pem');
      await writeFile(client_ca_path, `${listed.caPem}\n${ca.caPem}`);
      const client_crl_path = await listed.revocationList([]);
      return { tls: { client_auth: 'require', client_ca_path, client_crl_path } };
    });
    const line = await refused(setup, presenting(await setup.ca.client()));
    expect(line['close.detail']).toMatch(/holds no usable CRL for its issuer/);
    await admitted(setup, presenting(await listed.client()));
    await expectCounted(setup.proxy, { crl: 1, verified: 1 });
    await setup.proxy.endsWithNothingLeaked();
  });
});

test('client_auth: require lets a good certificate through, one with an intermediate too, and names it in the log', async () => {
  const setup = await startSetup(requiring);
  const intermediate = await setup.ca.intermediate('intermediate');
  const certificates = {
    'rails-1.test': await setup.ca.client({ dns: ['rails-1.test', 'rails.test'] }),
    'rails-2.test': await intermediate.client({ dns: ['rails-2.test'] }),
    'No Names': await setup.ca.client({ dns: [], commonName: 'No Names' }),
  };
  for (const version of TLS_VERSIONS) {
    for (const [identity, issued] of Object.entries(certificates)) {
      const { line } = await admitted(setup, { ...speaking(version), ...presenting(issued) });
      expect(line['peer.identity']).toBe(identity);
    }
  }
  await expectCounted(setup.proxy, { verified: 6 });
  await setup.proxy.endsWithNothingLeaked();
});

describe('client_auth: optional', () => {
  test('lets a client without a certificate in and counts it', async () => {
    const setup = await startSetup((ca) => ({ tls: { ...requiring(ca).tls, client_auth: 'optional' } }));
    for (const version of TLS_VERSIONS) {
      const { line } = await admitted(setup, speaking(version));
      expect(line).not.toHaveProperty('peer.identity');
    }
    const { line } = await admitted(setup, presenting(await setup.ca.client({ dns: ['rails-1.test'] })));
    expect(line['peer.identity']).toBe('rails-1.test');
    await expectCounted(setup.proxy, { absent: 2, verified: 1 });
    await setup.proxy.endsWithNothingLeaked();
  });

  test('refuses every certificate that is there and bad', async () => {
    const setup = await startSetup((ca) => ({ tls: { ...requiring(ca).tls, client_auth: 'optional' } }));
    for (const [name, , detail, client] of BAD) {
      const line = await refused(setup, await client(setup.ca));
      expect(line['close.detail'], name).toMatch(detail);
    }
    expect(setup.backend.connections).toHaveLength(0);
    const counts = {
      unknown_authority: 2,
      expired: 1,
      not_yet_valid: 1,
      invalid_purpose: 1,
      name_constraints: 1,
      critical_extension: 1,
      invalid_authority: 1,
    };
    await expectCounted(setup.proxy, counts);
    await setup.proxy.endsWithNothingLeaked();
  });
});

describe('a client that resumes an old session, with whichever of several certificates SNI had picked,', () => {
  const NAMES = ['localhost', 'second.test'];

  /** Replaces a file as a renewal does. */
  async function replace(path: string, content: string): Promise<void> {
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
  }

  /** A proxy with two certificates, CAs and a CRL, and the files and settings that the tests change. */
  async function startWithSessions() {
    const directory = await temporaryDirectory();
    const clients = await Authority.create(directory, 'clients');
    const others = await Authority.create(await temporaryDirectory(), 'others');
    const caPath = join(directory, 'trusted.pem');
    await writeFile(caPath, `${clients.caPem}\n${others.caPem}`);
    const crlPath = join(directory, 'revoked.crl');
    const crls = async (revoked: readonly string[]): Promise<string> => {
      const paths = [await clients.revocationList(revoked), await others.revocationList([])];
      return (await Promise.all(paths.map((path) => readFile(path, 'utf8')))).join('\n');
    };
    await writeFile(crlPath, await crls([]));
    const setup = await startSetup(async (ca) => {
      const second = await ca.server({ dns: ['second.test'], keyType: 'rsa' });
      return {
        tls: {
          client_auth: 'require',
          client_ca_path: caPath,
          client_crl_path: crlPath,
          certificates: [{ certificate_path: second.certificatePath, key_path: second.keyPath }],
        },
      };
    });
    const issued = await clients.client();
    const sessions: ConnectionOptions[] = [];
    for (const version of TLS_VERSIONS) {
      for (const servername of NAMES) {
        const options = { ...speaking(version), ...presenting(issued), servername };
        const { session } = await admitted(setup, options);
        // While nothing changes it is resumed: what follows is the change's doing.
        const { line } = await admitted(setup, { ...options, session });
        expect(line['tls.resumed']).toBe(true);
        sessions.push({ ...options, session });
      }
    }
    return { setup, sessions, issued, clients, others, caPath, crlPath, crls, directory };
  }

  type Sessions = Awaited<ReturnType<typeof startWithSessions>>;

  async function reconfigure({ setup }: Sessions, tls: Readonly<Record<string, unknown>>): Promise<void> {
    const { configuration, proxy } = setup;
    await proxy.configure({ ...configuration, tls: { ...configuration.tls, ...tls } });
    proxy.signal('SIGHUP');
  }

  const changes: [string, string, RegExp, (before: Sessions) => Promise<void>][] = [
    [
      'its CA is taken out of the file',
      'unknown_authority',
      /issued by CN=clients: its chain does not end/,
      ({ caPath, others }) => replace(caPath, others.caPem),
    ],
    [
      'a SIGHUP brings a configuration without its CA',
      'unknown_authority',
      /issued by CN=clients: its chain does not end/,
      (before) => reconfigure(before, { client_ca_path: before.others.caPath }),
    ],
    [
      'its certificate is added to the revocation list in the file',
      'revoked',
      /CERT_REVOKED/,
      async ({ crlPath, crls, issued }) => replace(crlPath, await crls([issued.serialNumber])),
    ],
    [
      'a SIGHUP brings a configuration with another revocation list',
      'revoked',
      /CERT_REVOKED/,
      async (before) => {
        const path = join(before.directory, 'other.crl');
        await writeFile(path, await before.crls([before.issued.serialNumber]));
        await reconfigure(before, { client_crl_path: path });
      },
    ],
  ];

  test.each(changes)('is refused once %s', async (_name, result, detail, change) => {
    const before = await startWithSessions();
    const { setup, sessions, others } = before;
    await change(before);
    await setup.proxy.log.waitForMessage('reloaded');
    const reached = setup.backend.connections.length;
    for (const options of sessions) {
      const line = await refused(setup, options);
      expect(line['close.detail']).toMatch(detail);
    }
    expect(setup.backend.connections).toHaveLength(reached);
    await admitted(setup, presenting(await others.client()));
    await expectCounted(setup.proxy, { verified: 2 * sessions.length + 1, [result]: sessions.length });
    await setup.proxy.endsWithNothingLeaked();
  });
});
