import 'reflect-metadata';

import { once } from 'node:events';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';

import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import * as x509 from '@peculiar/x509';
import { describe, expect, onTestFinished, test } from 'vitest';

import { Authority, type Issued } from '../support/authority.js';
import { startBackchannelBridge } from '../support/backchannel.js';
import {
  BACKCHANNEL_PREFACE,
  readToEnd,
  speaking,
  tcpClient,
  TLS_VERSIONS,
  tlsClient,
} from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { LogLine } from '../support/log-lines.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER, type Setup } from '../support/setup.js';
import { isInstalled, shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { nameConstraints } from '../x509/judge/hand-issued.js';

const DAY_MS = 86_400_000;
const RESULTS = 'gitaly_tls_proxy_tls_client_certificates_total';

function presenting(issued: Issued): ConnectionOptions {
  return { cert: issued.certificatePem, key: issued.keyPem };
}

function requiring(ca: Authority) {
  return { tls: { client_auth: 'require', client_ca_path: ca.caPath } };
}

/** The header of a yamux GO AWAY. */
const GO_AWAY = Buffer.from([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

/** A client that must be refused: its backchannel is ended. Returns what the log says. */
async function refused({ ca, proxy, port }: Setup, options: ConnectionOptions): Promise<LogLine> {
  const raw = await tcpClient(port);
  const address = `127.0.0.1:${raw.localPort ?? 0}`;
  // In TLS 1.3 the handshake is over for the client when it is refused, in TLS 1.2 it may see either.
  const client = await tlsClient(port, { socket: raw, ca: ca.caPem, ...options }).catch(() => undefined);
  if (client) {
    client.write(BACKCHANNEL_PREFACE);
    expect((await readToEnd(client)).received.subarray(-GO_AWAY.length)).toEqual(GO_AWAY);
  }
  const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
  expect(line).toMatchObject({
    level: 'warning',
    'close.reason': 'client_certificate_refused',
    'close.initiator': 'proxy',
  });
  expect(line).not.toHaveProperty('peer.identity');
  expect(String(line['close.advice'])).not.toBe('');
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

/** Replaces a file as a renewal does. */
async function replace(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
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
      presenting(
        await (await ca.intermediate('limited', { extensions: [nameConstraints(['other.test'])] })).client(),
      ),
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
      const upper = await ca.intermediate('upper', { extensions: [last] });
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
    expect(line['close.detail']).toMatch(/contains no usable CRL for its issuer/);
    await admitted(setup, presenting(await listed.client()));
    await expectCounted(setup.proxy, { crl: 1, verified: 1 });
    await setup.proxy.endsWithNothingLeaked();
  });
});

describe('the first calls of a client that is refused are answered UNAUTHENTICATED, with the reason and the fix,', () => {
  const cases: readonly [string, RegExp, Client][] = [
    [
      'absent',
      /^the client sent no certificate .*; fix: configure the client with a certificate/,
      () => Promise.resolve({}),
    ],
    ...BAD.slice(0, 2).map(([, result, detail, client]): [string, RegExp, Client] => [
      result,
      detail,
      client,
    ]),
  ];

  test.each(TLS_VERSIONS)('over HTTP/2 and within the backchannel (%s)', async (version) => {
    const { ca, backend, proxy, port } = await startSetup(requiring);
    const reverse = new Server();
    onTestFinished(() => reverse.forceShutdown());
    for (const [, reason, client] of cases) {
      const { cert, key } = await client(ca);
      const tls = {
        ca: ca.caPem,
        ...(typeof cert === 'string' && typeof key === 'string' && { certificate: cert, key }),
      };
      const options = { ...speaking(version), ca: ca.caPem, cert, key };
      const bridge = await startBackchannelBridge(
        () => tlsClient(port, options),
        reverse.createConnectionInjector(ServerCredentials.createInsecure()),
      );
      for (const calls of [
        new GrpcClient(await proxy.address(TLS_LISTENER), tls),
        new GrpcClient(new URL(`tcp://127.0.0.1:${bridge}`)),
      ]) {
        const failures = await Promise.allSettled([calls.health(), calls.health()]);
        for (const failure of failures)
          expect(failure).toMatchObject({
            status: 'rejected',
            reason: { code: status.UNAUTHENTICATED, details: expect.stringMatching(reason) as string },
          });
        calls.close();
      }
    }
    expect(backend.connections).toHaveLength(0);
    const closed = { reason: 'client_certificate_refused' };
    await proxy.scrapeUntil(
      (scrape) => scrape.value('gitaly_tls_proxy_connections_closed_total', closed) >= 2 * cases.length,
    );
    await proxy.endsWithNothingLeaked();
  });

  test('the connection of a refused client that does not call ends soon, too', async () => {
    const { ca, proxy, port } = await startSetup(requiring);
    const client = await tlsClient(port, { ca: ca.caPem, ...speaking('TLSv1.3') });
    expect(await readToEnd(client)).toMatchObject({ received: Buffer.alloc(0), kind: 'reset' });
    await proxy.log.waitForClose('client_certificate_refused');
    await proxy.endsWithNothingLeaked();
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

test('a client certificate with an RSA key of 1024 bits is refused, in TLS 1.2 and 1.3', async () => {
  const setup = await startSetup(requiring);
  const weak = presenting(await setup.ca.client({ keyType: 'rsa-1024' }));
  // The client's own library must take what it is to send.
  const ciphers = 'DEFAULT:@SECLEVEL=0';
  for (const version of TLS_VERSIONS) await refused(setup, { ...speaking(version), ...weak, ciphers });
  expect(setup.backend.connections).toHaveLength(0);
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

test('a CRL that is out of date refuses the clients of its CA alone, and prevents neither a start nor a renewal', async () => {
  const directory = await temporaryDirectory();
  const HOUR_MS = 3_600_000;
  const past = { thisUpdate: new Date(Date.now() - 3 * HOUR_MS), nextUpdate: new Date(Date.now() - HOUR_MS) };
  const good = await Authority.create(directory, 'good');
  const late = await Authority.create(await temporaryDirectory(), 'late');
  const unused = await Authority.create(await temporaryDirectory(), 'unused');
  const caPath = join(directory, 'trusted.pem');
  await writeFile(caPath, `${good.caPem}\n${late.caPem}`);
  const crlPath = join(directory, 'revoked.crl');
  const revoked = await good.client();
  const current = await good.revocationList([revoked.serialNumber]);
  const superseded = await good.revocationList([], past);
  const lists = [
    current,
    superseded,
    await late.revocationList([], past),
    await unused.revocationList([], past),
  ];
  await writeFile(crlPath, (await Promise.all(lists.map((path) => readFile(path, 'utf8')))).join('\n'));
  const setup = await startSetup({
    tls: { client_auth: 'require', client_ca_path: caPath, client_crl_path: crlPath },
  });
  const warnings = [...setup.proxy.log.lines].filter(({ level }) => level === 'warning');
  expect(warnings.map(({ error }) => /the CRL of CN=(\w+) expired/.exec(String(error))?.[1])).toEqual([
    'late',
    'unused',
  ]);
  await admitted(setup, presenting(await good.client()));
  const line = await refused(setup, presenting(await late.client()));
  expect(line['close.detail']).toMatch(/CRL_HAS_EXPIRED/);
  expect((await refused(setup, presenting(revoked)))['close.detail']).toMatch(/CERT_REVOKED/);
  const scrape = await setup.proxy.scrape();
  expect(scrape.value('gitaly_tls_proxy_tls_out_of_date', { role: 'client_crl' })).toBe(2);

  await replace(caPath, `${good.caPem}\n${late.caPem}\n${unused.caPem}`);
  await setup.proxy.log.waitForEvent('reloaded');
  await expectCounted(setup.proxy, { verified: 1, crl: 1, revoked: 1 });
  await setup.proxy.endsWithNothingLeaked();
});

test('a delta CRL beside the complete one is refused, as clients could be admitted that are revoked', async () => {
  const { configuration, proxy, ca, port, backend, directory, server } = await startSetup(requiring);
  const revoked = await ca.client();
  const complete = await readFile(await ca.revocationList([revoked.serialNumber]), 'utf8');
  const extensions = [{ id: '2.5.29.27', critical: true, der: '020101' }];
  const delta = await readFile(await ca.revocationList([], { thisUpdate: new Date(), extensions }), 'utf8');
  const client_crl_path = join(directory, 'with-delta.crl');
  await writeFile(client_crl_path, complete + delta);
  await proxy.configure({ ...configuration, tls: { ...configuration.tls, client_crl_path } });
  proxy.signal('SIGHUP');
  const line = await proxy.log.waitForEvent('reload_failed');
  expect(line['error']).toMatch(/the CRL of CN=ca is a delta CRL \(deltaCRLIndicator\)/);
  await writeFile(client_crl_path, complete);
  await proxy.log.waitForEvent('reloaded');
  const setup = { configuration, proxy, ca, port, backend, directory, server };
  expect((await refused(setup, presenting(revoked)))['close.detail']).toMatch(/CERT_REVOKED/);
  await proxy.endsWithNothingLeaked();
});

test('a session is not resumed, by any worker, after a CRL or an intermediate of its client has expired', async () => {
  const directory = await temporaryDirectory();
  const root = await Authority.create(directory, 'root');
  const listed = await Authority.create(await temporaryDirectory(), 'listed');
  const caPath = join(directory, 'trusted.pem');
  const crlPath = join(directory, 'revoked.crl');
  await writeFile(caPath, `${root.caPem}\n${listed.caPem}`);
  const LIFETIME_MS = 5000;
  const lists = async (...paths: Promise<string>[]): Promise<string> =>
    (await Promise.all((await Promise.all(paths)).map((path) => readFile(path, 'utf8')))).join('\n');
  await writeFile(crlPath, await lists(root.revocationList([]), listed.revocationList([])));
  const setup = await startSetup({
    tls: { client_auth: 'require', client_ca_path: caPath, client_crl_path: crlPath },
    more: { workers: 2 },
  });
  const end = new Date(Date.now() + LIFETIME_MS);
  const between = await root.intermediate('between', { notAfter: end });
  await replace(
    crlPath,
    await lists(
      root.revocationList([]),
      between.revocationList([]),
      listed.revocationList([], { nextUpdate: end, thisUpdate: new Date(Date.now() - 1000) }),
    ),
  );
  await setup.proxy.log.waitForEvent('reloaded');
  const clients = [await between.client({ dns: ['chained.test'] }), await listed.client()];
  const sessions: ConnectionOptions[] = [];
  for (const version of TLS_VERSIONS) {
    for (const issued of clients) {
      const options = { ...speaking(version), ...presenting(issued) };
      const { session } = await admitted(setup, options);
      const { line } = await admitted(setup, { ...options, session });
      expect(line['tls.resumed']).toBe(true);
      sessions.push({ ...options, session });
    }
  }
  const expired = await setup.proxy.log.waitForEvent('certificate_expired');
  expect(expired).toMatchObject({ level: 'warning', role: 'client_crl', file: crlPath });
  expect(expired['error']).toMatch(/the CRL of CN=listed expired on .*: the clients of this CA are refused/);
  const reached = setup.backend.connections.length;
  for (const options of sessions) {
    // One connection for each worker, whichever is first.
    for (let connection = 0; connection < 2; connection++) {
      const line = await refused(setup, options);
      expect(line['tls.resumed']).toBe(false);
      expect(line['close.detail']).toMatch(/CERT_HAS_EXPIRED|CRL_HAS_EXPIRED/);
    }
  }
  expect(setup.backend.connections).toHaveLength(reached);
  await admitted(setup, presenting(await root.client()));
  await setup.proxy.endsWithNothingLeaked();
});

describe('a client that resumes an old session, with whichever of several certificates SNI had picked,', () => {
  const NAMES = ['localhost', 'second.test'];

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
    await setup.proxy.log.waitForEvent('reloaded');
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
