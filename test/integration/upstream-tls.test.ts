import { status } from '@grpc/grpc-js';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { TLSSocket, type TlsOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { Authority, type Issued } from '../support/authority.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, readToEnd, tcpClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import { opensslServer, requiringClients } from '../support/openssl-server.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { TLS_LISTENER } from '../support/setup.js';
import { isInstalled } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DAY_MS = 86_400_000;
const LISTENER = 'tcp://127.0.0.1:0';
/** The environment of the machine that runs the tests must not decide whom the proxy trusts. */
const NO_TRUST = { SSL_CERT_FILE: '', SSL_CERT_DIR: '' };

/** A proxy in client mode: plaintext here, TLS towards upstream. */
async function startClientMode(
  forward: string,
  upstreamTls: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string>> = {},
) {
  const proxy = await ProxyProcess.start({
    configuration: { listeners: [{ listen: LISTENER, forward, upstream_tls: upstreamTls }] },
    env: { ...NO_TRUST, ...env },
  });
  return { proxy, port: await proxy.port(LISTENER) };
}

function serving(issued: Issued): TlsOptions {
  return { cert: issued.certificatePem, key: issued.keyPem };
}

function presenting(issued: Issued) {
  return { certificate_path: issued.certificatePath, key_path: issued.keyPath };
}

/** Sends a preface through the proxy to the backend and an answer back, then both sides finish. What upstream saw. */
async function passThrough(port: number, backend: RawBackend) {
  const client = await tcpClient(port);
  client.write(BACKCHANNEL_PREFACE);
  const upstream = await backend.accept();
  expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
  const { socket } = upstream;
  if (!(socket instanceof TLSSocket)) throw new Error('the backend was reached without TLS');
  // Asked for while the connection is open: Node has no answer afterwards.
  const seen = {
    version: socket.getProtocol(),
    authorized: socket.authorized,
    client: socket.getPeerX509Certificate()?.subjectAltName,
  };
  client.end();
  expect(await upstream.ended).toBe('end');
  socket.end('an answer');
  expect((await readToEnd(client)).received.toString()).toBe('an answer');
  return seen;
}

/** What a gRPC client is told, and the log says, of an upstream that is not accepted. */
async function expectFailure(
  proxy: ProxyProcess,
  reason: string,
  message: RegExp,
  listener = LISTENER,
): Promise<void> {
  const client = new GrpcClient(await proxy.address(listener));
  await expect(client.health()).rejects.toMatchObject({
    code: status.UNAVAILABLE,
    details: expect.stringMatching(message) as string,
  });
  client.close();
  const line = await proxy.log.waitFor(
    (candidate) => candidate['listener'] === listener && 'close.reason' in candidate,
  );
  expect(line).toMatchObject({
    level: 'error',
    'close.reason': 'upstream_unreachable',
    'close.initiator': 'proxy',
    protocol: 'http2',
  });
  expect(line['close.detail']).toMatch(message);
  const scrape = await proxy.scrape();
  const failures = 'gitaly_tls_proxy_upstream_connect_failures_total';
  expect(scrape.value(failures, { listener, reason })).toBe(1);
  expect(scrape.value(failures, { listener })).toBe(1);
  expect(scrape.value('gitaly_tls_proxy_upstream_up', { listener })).toBe(0);
}

describe('forward: tls://', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'offers ALPN h2 and the name, and presents the client certificate (%s)',
    async (version) => {
      const ca = await Authority.create(await temporaryDirectory());
      const clientCa = await Authority.create(await temporaryDirectory(), 'clients');
      const offers: unknown[] = [];
      const backend = await RawBackend.startTls({
        ...serving(await ca.server()),
        maxVersion: version,
        // The certificate is asked for and judged below: the refusals have tests of their own.
        requestCert: true,
        rejectUnauthorized: false,
        ca: clientCa.caPem,
        ALPNProtocols: undefined,
        ALPNCallback: (offer) => {
          offers.push(offer);
          return 'h2';
        },
      });
      const own = await (await clientCa.intermediate('departments')).client({ dns: ['rails-1.test'] });
      const { proxy, port } = await startClientMode(backend.tlsUrl(), {
        ca_path: ca.caPath,
        ...presenting(own),
      });
      const seen = await passThrough(port, backend);
      expect(offers).toEqual([{ servername: 'localhost', protocols: ['h2'] }]);
      expect(seen).toEqual({ version, authorized: true, client: 'DNS:rails-1.test' });
      await proxy.endsWithNothingLeaked();
    },
  );

  test('takes a chain with an intermediate, a wildcard, an address as SAN, and the name of server_name', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const intermediate = await ca.intermediate('intermediate');
    const listeners: { listen: string; forward: string; upstream_tls: Record<string, string> }[] = [];
    const directory = await temporaryDirectory();
    const backends: RawBackend[] = [];
    const add = async (issued: Issued, host: string, settings: Record<string, string>): Promise<void> => {
      const backend = await RawBackend.startTls(serving(issued));
      listeners.push({
        listen: `unix:${join(directory, `${backends.length}.socket`)}`,
        forward: backend.tlsUrl(host),
        upstream_tls: { ca_path: ca.caPath, ...settings },
      });
      backends.push(backend);
    };
    await add(await intermediate.server({ ip: [] }), 'localhost', {});
    await add(await ca.server({ dns: ['*.internal.test'], ip: [] }), '127.0.0.1', {
      server_name: 'gitaly-a.internal.test',
    });
    await add(await ca.server({ dns: [] }), '127.0.0.1', {});
    const proxy = await ProxyProcess.start({ configuration: { listeners }, env: NO_TRUST });
    for (const [index, backend] of backends.entries()) {
      const client = connect({
        path: listeners[index]?.listen.slice('unix:'.length) ?? '',
        allowHalfOpen: true,
      });
      onTestFinished(() => void client.destroy());
      client.end(BACKCHANNEL_PREFACE);
      const upstream = await backend.accept();
      expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
      upstream.socket.end();
      await once(client.resume(), 'close');
    }
    await proxy.endsWithNothingLeaked();
  });
});

describe('an upstream is refused before a byte of the client reaches it, with the reason in log and gRPC status:', () => {
  type Certificate = (ca: Authority) => Promise<Issued>;

  /** What is wrong with a certificate, the reason's label, the certificate, the host dialled, and what must be said. */
  const certificates: [string, string, Certificate, string, RegExp][] = [
    [
      'expired',
      'certificate_expired',
      (ca) => ca.server({ notBefore: new Date(0), notAfter: new Date('2001-02-03T04:05:06Z') }),
      'localhost',
      /tls:\/\/localhost:\d+ .*CN=localhost expired on 2001-02-03T04:05:06/,
    ],
    [
      'not yet valid',
      'certificate_not_yet_valid',
      (ca) => ca.server({ notBefore: new Date(Date.now() + DAY_MS) }),
      'localhost',
      /CN=localhost is not valid before \d{4}-/,
    ],
    [
      'of an unknown authority',
      'certificate_unknown_authority',
      async () => (await Authority.create(await temporaryDirectory(), 'Elsewhere Root')).server(),
      'localhost',
      /unknown authority, its issuer is CN=Elsewhere Root: .*ca_path/,
    ],
    [
      'without its intermediate',
      'certificate_unknown_authority',
      async (ca) => {
        const issued = await (await ca.intermediate('Second Floor')).server();
        const [leaf = ''] = issued.certificatePem.split(/(?<=-----END CERTIFICATE-----)/);
        return { ...issued, certificatePem: leaf };
      },
      'localhost',
      /unknown authority, its issuer is CN=Second Floor/,
    ],
    [
      'with other names',
      'certificate_name_mismatch',
      (ca) =>
        ca.server({ dns: ['gitaly-b.test', '*.gitaly-c.test'], ip: ['192.0.2.1'], commonName: 'localhost' }),
      'localhost',
      /not valid for localhost; .*gitaly-b\.test, \*\.gitaly-c\.test, 192\.0\.2\.1/,
    ],
    [
      'with a Common Name only',
      'certificate_name_mismatch',
      (ca) => ca.server({ dns: [], ip: [], commonName: 'localhost' }),
      'localhost',
      /not valid for localhost; .*none/,
    ],
    [
      'whose Common Name alone is the address',
      'certificate_name_mismatch',
      (ca) => ca.server({ dns: ['gitaly-b.test'], ip: [], commonName: '127.0.0.1' }),
      '127.0.0.1',
      /not valid for 127\.0\.0\.1; .*gitaly-b\.test/,
    ],
    [
      'not meant for servers',
      'certificate_invalid_purpose',
      (ca) => ca.server({ usages: ['clientAuth'] }),
      'localhost',
      /CN=localhost is not meant for a server \(INVALID_PURPOSE\)/,
    ],
  ];

  test('a certificate that is expired, not yet valid, of an unknown CA, for another name or for another use', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const cases = await Promise.all(
      certificates.map(async ([name, reason, certificate, host, message], index) => {
        const backend = await RawBackend.startTls(serving(await certificate(ca)));
        // All of 127.0.0.0/8 is this machine: each case has a listener that the log can name.
        return { name, reason, message, backend, host, listener: `tcp://127.0.0.${index + 1}:0` };
      }),
    );
    const listeners = cases.map(({ backend, host, listener }) => ({
      listen: listener,
      forward: backend.tlsUrl(host),
      upstream_tls: { ca_path: ca.caPath },
    }));
    const proxy = await ProxyProcess.start({ configuration: { listeners }, env: NO_TRUST });
    await Promise.all(
      cases.map(async ({ name, reason, message, backend, listener }) => {
        await expectFailure(proxy, reason, message, listener);
        for (const { received } of backend.connections) expect(received, name).toHaveLength(0);
      }),
    );
    await proxy.endsWithNothingLeaked();
  });

  test('no ALPN selected', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const backend = await RawBackend.startTls({ ...serving(await ca.server()), ALPNProtocols: undefined });
    const { proxy } = await startClientMode(backend.tlsUrl(), { ca_path: ca.caPath });
    await expectFailure(proxy, 'no_alpn', /did not select ALPN h2/);
    for (const { received } of backend.connections) expect(received).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('another ALPN only', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const backend = await RawBackend.startTls({ ...serving(await ca.server()), ALPNProtocols: ['http/1.1'] });
    const { proxy } = await startClientMode(backend.tlsUrl(), { ca_path: ca.caPath });
    await expectFailure(proxy, 'tls', /does not know ALPN h2/);
    await proxy.endsWithNothingLeaked();
  });

  test('no TLS on that port', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const plaintext = await startGrpcBackend();
    const { proxy } = await startClientMode(plaintext.replace('tcp://', 'tls://'), { ca_path: ca.caPath });
    await expectFailure(proxy, 'tls', /does not speak TLS on this port; forward to tcp:\/\//);
    await proxy.endsWithNothingLeaked();
  });

  test('a TLS version below min_version', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const backend = await RawBackend.startTls({ ...serving(await ca.server()), maxVersion: 'TLSv1.2' });
    const settings = { ca_path: ca.caPath, min_version: 'TLS 1.3' };
    const { proxy } = await startClientMode(backend.tlsUrl(), settings);
    await expectFailure(proxy, 'tls', /no TLS version in common with upstream_tls\.min_version/);
    await proxy.endsWithNothingLeaked();
  });
});

describe('the CAs that an upstream is verified with, without ca_path:', () => {
  test('SSL_CERT_FILE', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const backend = await RawBackend.startTls(serving(await ca.server()));
    const { proxy, port } = await startClientMode(backend.tlsUrl(), {}, { SSL_CERT_FILE: ca.caPath });
    await passThrough(port, backend);
    await proxy.endsWithNothingLeaked();
  });

  test('the directories of SSL_CERT_DIR', async () => {
    const directory = await temporaryDirectory();
    const ca = await Authority.create(directory);
    const [roots, missing] = [join(directory, 'roots'), join(directory, 'missing')];
    await mkdir(roots);
    await writeFile(join(roots, 'gitaly.crt'), ca.caPem);
    await writeFile(join(roots, 'README'), 'Put authorities here.\n');
    const backend = await RawBackend.startTls(serving(await ca.server()));
    const env = { SSL_CERT_DIR: `${missing}:${roots}` };
    const { proxy, port } = await startClientMode(backend.tlsUrl(), {}, env);
    await passThrough(port, backend);
    await proxy.endsWithNothingLeaked();
  });

  test('the trust store of the system, which does not hold the CA of this test', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const backend = await RawBackend.startTls(serving(await ca.server()));
    const { proxy } = await startClientMode(backend.tlsUrl(), {});
    await expectFailure(proxy, 'certificate_unknown_authority', /its issuer is CN=ca/);
    await proxy.endsWithNothingLeaked();
  });

  test('ca_path wins over the environment', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const other = await Authority.create(await temporaryDirectory(), 'other');
    const backend = await RawBackend.startTls(serving(await ca.server()));
    const env = { SSL_CERT_FILE: ca.caPath };
    const { proxy } = await startClientMode(backend.tlsUrl(), { ca_path: other.caPath }, env);
    await expectFailure(proxy, 'certificate_unknown_authority', /its issuer is CN=ca/);
    await proxy.endsWithNothingLeaked();
  });
});

describe('a client certificate that upstream refuses is logged', () => {
  test.runIf(isInstalled('openssl')).each([
    ['missing', false],
    ['of another CA', true],
  ])('in TLS 1.2, to the client too: %s', async (_name, present) => {
    const ca = await Authority.create(await temporaryDirectory());
    const stranger = await (await Authority.create(await temporaryDirectory(), 'stranger')).client();
    const port = await opensslServer(await ca.server(), requiringClients(ca, '-tls1_2'));
    const { proxy } = await startClientMode(`tls://localhost:${port}`, {
      ca_path: ca.caPath,
      ...(present && presenting(stranger)),
    });
    await expectFailure(
      proxy,
      present ? 'client_certificate_refused' : 'tls',
      present ? /refused the client certificate of upstream_tls/ : /may want a client certificate/,
    );
    await proxy.endsWithNothingLeaked();
  });

  test.runIf(isInstalled('openssl')).each([
    ['missing', false],
    ['of another CA', true],
  ])(
    'in TLS 1.3, where it comes after the handshake, to the client over HTTP/2 and the backchannel: %s',
    async (_name, present) => {
      const ca = await Authority.create(await temporaryDirectory());
      const stranger = await (await Authority.create(await temporaryDirectory(), 'stranger')).client();
      const port = await opensslServer(await ca.server(), requiringClients(ca, '-tls1_3'));
      const clientMode = await startClientMode(`tls://localhost:${port}`, {
        ca_path: ca.caPath,
        ...(present && presenting(stranger)),
      });
      const { proxy } = clientMode;
      const refusal = /refused the client certificate of upstream_tls, or requires one/;
      await expectFailure(proxy, 'client_certificate_refused', refusal);
      const client = await tcpClient(clientMode.port);
      client.write(BACKCHANNEL_PREFACE);
      expect((await readToEnd(client)).kind).toBe('end');
      const line = await proxy.log.waitFor((candidate) => candidate['protocol'] === 'backchannel');
      expect(line).toMatchObject({ level: 'error', 'close.reason': 'upstream_unreachable' });
      expect(line['close.detail']).toMatch(refusal);
      const failures = 'gitaly_tls_proxy_upstream_connect_failures_total';
      expect((await proxy.scrape()).value(failures, { reason: 'client_certificate_refused' })).toBe(2);
      await proxy.endsWithNothingLeaked();
    },
  );

  test('by this proxy, to the client that called, with the reason', async () => {
    const { first, second, backend } = await startPair({ authority: 'another' });
    const client = new GrpcClient(await first.address(LISTENER));
    await expect(client.health()).rejects.toMatchObject({
      code: status.UNAUTHENTICATED,
      details: expect.stringContaining('client_ca_path') as string,
    });
    client.close();
    await second.log.waitForClose('client_certificate_refused');
    expect(backend.connections).toHaveLength(0);
    await first.endsWithNothingLeaked();
    await second.endsWithNothingLeaked();
  });
});

/** Client mode in front of a proxy that requires client certificates, each with a CA of its own. */
async function startPair({
  authority = 'the same',
  forward,
}: {
  authority?: 'the same' | 'another';
  forward?: string;
}) {
  const ca = await Authority.create(await temporaryDirectory(), 'servers');
  const clientCa = await Authority.create(await temporaryDirectory(), 'clients');
  const issuer = authority === 'the same' ? clientCa : ca;
  const backend = await RawBackend.start();
  const second = await ProxyProcess.start({
    configuration: {
      tls: { ...presenting(await ca.server()), client_auth: 'require', client_ca_path: clientCa.caPath },
      listeners: [{ listen: TLS_LISTENER, forward: forward ?? backend.url }],
    },
  });
  const { proxy: first } = await startClientMode(`tls://localhost:${await second.port(TLS_LISTENER)}`, {
    ca_path: ca.caPath,
    ...presenting(await issuer.client({ dns: ['rails-1.test'] })),
  });
  return { first, second, backend };
}

describe('two proxies in a row, the second of which requires the certificate that the first presents', () => {
  test('carry gRPC calls of every kind', async () => {
    const { first, second } = await startPair({ forward: await startGrpcBackend() });
    const client = new GrpcClient(await first.address(LISTENER));
    const message = Buffer.alloc(100_000, 'gitaly');
    await client.health();
    expect((await client.echo(message)).equals(message)).toBe(true);
    for (const answer of await client.repeat(message)) expect(answer.equals(message)).toBe(true);
    expect(await client.count([message, message, message])).toBe(3 * message.length);
    client.close();
    expect(await first.log.waitForClose('finished')).toMatchObject({ protocol: 'http2' });
    expect(await second.log.waitForClose('finished')).toMatchObject({
      protocol: 'http2',
      'peer.identity': 'rails-1.test',
      server_name: 'localhost',
    });
    const verified = { result: 'verified' };
    expect((await second.scrape()).value('gitaly_tls_proxy_tls_client_certificates_total', verified)).toBe(1);
    await first.endsWithNothingLeaked();
    await second.endsWithNothingLeaked();
  });

  test('carry the backchannel, both ways', async () => {
    const { first, second, backend } = await startPair({});
    const client = await tcpClient(await first.port(LISTENER));
    client.write(BACKCHANNEL_PREFACE);
    const upstream = await backend.accept();
    expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
    upstream.socket.end('an answer');
    const ending = readToEnd(client);
    await once(client, 'end');
    client.end();
    expect(await upstream.ended).toBe('end');
    expect((await ending).received.toString()).toBe('an answer');
    for (const proxy of [first, second]) {
      expect(await proxy.log.waitForClose('finished')).toMatchObject({ protocol: 'backchannel' });
    }
    await first.endsWithNothingLeaked();
    await second.endsWithNothingLeaked();
  });
});
