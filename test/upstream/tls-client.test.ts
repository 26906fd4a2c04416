import { once } from 'node:events';
import { connect, createServer as createTcpServer, type Socket } from 'node:net';
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { UpstreamFailure } from '../../src/upstream/failure.js';
import { TlsClient } from '../../src/upstream/tls-client.js';
import { Authority, type IssueOptions, type Issued } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { upstreamMaterial } from '../tls/material.js';

const DAY_MS = 86_400_000;

interface Upstream {
  readonly port: number;
  /** The facts of each handshake that finished at the upstream. */
  readonly secured: Promise<TLSSocket>;
}

async function startUpstream(issued: Issued, options: TlsOptions = {}): Promise<Upstream> {
  const server = createServer({
    cert: issued.certificatePem,
    key: issued.keyPem,
    ALPNProtocols: ['h2'],
    ...options,
  });
  server.on('tlsClientError', () => undefined);
  const secured = new Promise<TLSSocket>((resolve) =>
    server.on('secureConnection', (socket) => {
      socket.on('error', () => undefined);
      onTestFinished(() => {
        socket.destroy();
      });
      resolve(socket);
    }),
  );
  return { port: await portOf(server.listen(0, '127.0.0.1')), secured };
}

async function portOf(server: ReturnType<typeof createTcpServer>): Promise<number> {
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not bound');
  return address.port;
}

async function rawTo(port: number): Promise<Socket> {
  const raw = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  raw.on('error', () => undefined);
  onTestFinished(() => {
    raw.destroy();
  });
  await once(raw, 'connect');
  return raw;
}

async function failureOf(handshake: Promise<unknown>): Promise<UpstreamFailure> {
  const failure: unknown = await handshake.then(
    () => 'a handshake that should have failed',
    (error: unknown) => error,
  );
  if (failure instanceof UpstreamFailure) return failure;
  throw failure instanceof Error ? failure : new Error(String(failure));
}

/** A handshake with an upstream whose certificate has these options. */
async function handshake(
  certificate: IssueOptions,
  {
    serverName = 'localhost',
    trusted,
    upstream = {},
  }: { serverName?: string; trusted?: Authority; upstream?: TlsOptions } = {},
): Promise<{ done: Promise<TLSSocket>; authority: Authority }> {
  const directory = await temporaryDirectory();
  const authority = await Authority.create(directory, 'the-ca');
  const { port } = await startUpstream(await authority.server(certificate), upstream);
  const client = new TlsClient(await upstreamMaterial((trusted ?? authority).caPath));
  return { done: client.handshake(await rawTo(port), serverName), authority };
}

describe('accepted', () => {
  test.each<[string, IssueOptions, string]>([
    ['a DNS name', { dns: ['gitaly-a.internal'] }, 'gitaly-a.internal'],
    ['a DNS name in other letters', { dns: ['Gitaly-A.Internal'] }, 'gitaly-a.internal'],
    ['one DNS name of several', { dns: ['a.test', 'b.test', 'c.test'] }, 'c.test'],
    ['a wildcard', { dns: ['*.gitlab.internal'] }, 'gitaly-a.gitlab.internal'],
    ['an IPv4 address', { dns: [], ip: ['127.0.0.1'] }, '127.0.0.1'],
    ['an IPv6 address', { dns: [], ip: ['2001:db8::1'] }, '2001:db8::1'],
    ['an IPv6 address in another form', { dns: [], ip: ['2001:db8::1'] }, '2001:db8:0:0::0:1'],
  ])('%s', async (_name, certificate, serverName) => {
    const { done } = await handshake(certificate, { serverName });
    const socket = await done;
    expect(socket.authorized).toBe(true);
    expect(socket.alpnProtocol).toBe('h2');
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s, through an intermediate', async (version) => {
    const directory = await temporaryDirectory();
    const root = await Authority.create(directory);
    const issued = await (await root.intermediate('intermediate')).server();
    const { port } = await startUpstream(issued, { minVersion: version, maxVersion: version });
    const client = new TlsClient(await upstreamMaterial(root.caPath));
    const socket = await client.handshake(await rawTo(port), 'localhost');
    expect(socket.getProtocol()).toBe(version);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    '%s, with an intermediate alone, or the certificate itself, as the only trusted one',
    async (version) => {
      const root = await Authority.create(await temporaryDirectory());
      const between = await root.intermediate('between');
      const issued = await between.server();
      const [leaf = ''] = issued.certificatePem.split(/(?<=-----END CERTIFICATE-----)/u);
      for (const certificatePem of [issued.certificatePem, leaf]) {
        const { port } = await startUpstream(
          { ...issued, certificatePem },
          { minVersion: version, maxVersion: version },
        );
        for (const ca of [between.caPath, issued.certificatePath]) {
          const client = new TlsClient(await upstreamMaterial(ca));
          const socket = await client.handshake(await rawTo(port), 'localhost');
          expect(socket.authorized).toBe(true);
        }
      }
      const other = await startUpstream(await root.server());
      const client = new TlsClient(await upstreamMaterial(between.caPath));
      const { reason } = await failureOf(client.handshake(await rawTo(other.port), 'localhost'));
      expect(reason).toBe('certificate_unknown_authority');
    },
  );

  test('no session is resumed, so that the upstream is verified anew each time', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const { port } = await startUpstream(await authority.server());
    const client = new TlsClient(await upstreamMaterial(authority.caPath));
    for (let connection = 0; connection < 2; connection++) {
      const socket = await client.handshake(await rawTo(port), 'localhost');
      expect(socket.isSessionReused()).toBe(false);
      await once(socket.resume(), 'session');
    }
  });

  test.each([
    ['server_name', 'named.test', 'dialled.test'],
    ['the host without the dot of the root', undefined, 'named.test.'],
  ])('%s is the name that is asked for and must be held', async (_name, serverName, host) => {
    const authority = await Authority.create(await temporaryDirectory());
    const { port, secured } = await startUpstream(await authority.server({ dns: ['named.test'] }), {});
    const client = new TlsClient(await upstreamMaterial(authority.caPath, { serverName }));
    await client.handshake(await rawTo(port), host);
    expect(Reflect.get(await secured, 'servername')).toBe('named.test');
  });

  test('the client certificate is presented, and the server name is sent', async () => {
    const directory = await temporaryDirectory();
    const authority = await Authority.create(directory);
    const client = await authority.client({ dns: ['rails.internal'] });
    const { port, secured } = await startUpstream(await authority.server(), {
      ca: authority.caPem,
      requestCert: true,
      rejectUnauthorized: true,
    });
    const material = await upstreamMaterial(authority.caPath, { client });
    await new TlsClient(material).handshake(await rawTo(port), 'localhost');
    const seen = await secured;
    expect(seen.authorized).toBe(true);
    expect(seen.getPeerX509Certificate()?.subjectAltName).toBe('DNS:rails.internal');
    expect(Reflect.get(seen, 'servername')).toBe('localhost');
  });
});

describe('refused', () => {
  test.each<[string, IssueOptions, string, RegExp]>([
    [
      'another name: the names that there are stand in the message',
      { dns: ['gitaly-b.internal', 'gitaly-c.internal'], ip: ['10.0.0.1'] },
      'gitaly-a.internal',
      /^the certificate is not valid for gitaly-a\.internal; the names that it has: gitaly-b\.internal, gitaly-c\.internal, 10\.0\.0\.1$/,
    ],
    [
      'a certificate with a Common Name only',
      { dns: [], ip: [], commonName: 'gitaly-a.internal' },
      'gitaly-a.internal',
      /not valid for gitaly-a\.internal; the names that it has: none$/,
    ],
    [
      'a Common Name beside addresses',
      { dns: [], ip: ['10.0.0.1'], commonName: 'gitaly-a.internal' },
      'gitaly-a.internal',
      /the names that it has: 10\.0\.0\.1$/,
    ],
    [
      'a wildcard for two labels',
      { dns: ['*.gitlab.internal'], ip: [] },
      'a.b.gitlab.internal',
      /has: \*\.gitlab\.internal$/,
    ],
    [
      'a wildcard for none',
      { dns: ['*.gitlab.internal'], ip: [] },
      'gitlab.internal',
      /has: \*\.gitlab\.internal$/,
    ],
    // As OpenSSL, gRPC's C core and Node judge; Go alone takes it.
    [
      'a wildcard for a whole top-level domain',
      { dns: ['*.internal'], ip: [] },
      'a.internal',
      /has: \*\.internal$/,
    ],
    ['a partial wildcard', { dns: ['g-*.gitlab.internal'], ip: [] }, 'g-a.gitlab.internal', /has: g-\*/],
    ['an address that is a DNS name there', { dns: ['127.0.0.1'], ip: [] }, '127.0.0.1', /not valid for 127/],
    ['another address', { dns: ['localhost'], ip: ['127.0.0.1'] }, '127.0.0.2', /localhost, 127\.0\.0\.1$/],
  ])('%s', async (_name, certificate, serverName, message) => {
    const { done } = await handshake(certificate, { serverName });
    const failure = await failureOf(done);
    expect(failure.reason).toBe('certificate_name_mismatch');
    expect(failure.message).toMatch(message);
  });

  test('an expired certificate: when it expired', async () => {
    const notAfter = new Date('2024-02-29T12:00:00Z');
    const { done } = await handshake({ notBefore: new Date('2024-01-01T00:00:00Z'), notAfter });
    const failure = await failureOf(done);
    expect(failure.reason).toBe('certificate_expired');
    expect(failure.message).toBe(
      'the certificate of CN=localhost expired on 2024-02-29T12:00:00.000Z (CERT_HAS_EXPIRED)',
    );
  });

  test('one that is not valid yet: from when on', async () => {
    const notBefore = new Date(Math.ceil(Date.now() / DAY_MS + 2) * DAY_MS);
    const { done } = await handshake({ notBefore, notAfter: new Date(notBefore.getTime() + DAY_MS) });
    const failure = await failureOf(done);
    expect(failure.reason).toBe('certificate_not_yet_valid');
    expect(failure.message).toContain(`is not valid before ${notBefore.toISOString()}`);
  });

  test('an unknown authority: its name', async () => {
    const trusted = await Authority.create(await temporaryDirectory(), 'another-ca');
    const failure = await failureOf((await handshake({}, { trusted })).done);
    expect(failure.reason).toBe('certificate_unknown_authority');
    expect(failure.message).toMatch(/signed by an unknown authority, its issuer is CN=the-ca: add that CA/);
  });

  test('one that is not meant for servers', async () => {
    const failure = await failureOf((await handshake({ usages: ['clientAuth'] })).done);
    expect(failure.reason).toBe('certificate_invalid_purpose');
  });

  test('no ALPN', async () => {
    const { done } = await handshake({}, { upstream: { ALPNProtocols: undefined } });
    const failure = await failureOf(done);
    expect(failure.reason).toBe('no_alpn');
    expect(failure.message).toMatch(/did not select ALPN h2/);
  });

  test('the chain is judged before the name, and both before ALPN', async () => {
    const trusted = await Authority.create(await temporaryDirectory(), 'another-ca');
    const upstream = { ALPNProtocols: undefined };
    const both = await handshake({}, { trusted, serverName: 'other', upstream });
    expect((await failureOf(both.done)).reason).toBe('certificate_unknown_authority');
    const name = await handshake({}, { serverName: 'other', upstream });
    expect((await failureOf(name.done)).reason).toBe('certificate_name_mismatch');
  });

  test('an upstream that leaves within the handshake', async () => {
    const server = createTcpServer((socket) => {
      socket.once('data', () => socket.end());
    });
    const port = await portOf(server.listen(0, '127.0.0.1'));
    const authority = await Authority.create(await temporaryDirectory());
    const client = new TlsClient(await upstreamMaterial(authority.caPath));
    const failure: unknown = await client
      .handshake(await rawTo(port), 'localhost')
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({
      message: expect.stringMatching(/closed the connection within the TLS handshake|disconnected/) as string,
    });
  });
});
