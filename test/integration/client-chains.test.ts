import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect, createSecureContext, type ConnectionOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { REPEATS } from '../../src/commands/demo/demo-service.js';
import { Authority } from '../support/authority.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { KEYS, toPem, unsignedChain } from '../support/certificate-chains.js';
import {
  BACKCHANNEL_PREFACE,
  HTTP2_PREFACE,
  readToEnd,
  speaking,
  tcpClient,
  TLS_VERSIONS,
  tlsClient,
} from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { LogLine } from '../support/log-lines.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';
import { recordNode } from '../tls/recorded-client-hello.js';

const [RELAY, GATE] = ['tls://127.0.0.1:0', 'https://127.0.0.1:0'];
const LEAF = generateKeyPairSync('ec', { namedCurve: 'P-256' });
/** A source address that no test's client with a certificate has. */
const STRANGER = '127.0.0.2';

type Chain = ReturnType<typeof unsignedChain>;

/** The guard counts all certificates; after OpenSSL has verified a chain, they are counted only as far as the limit. */
const GUARDED = 'client_chain: the client sent 20 certificates, the limit is 6';
const VERIFIED_FIRST = 'client_chain: the client sent 7 certificates, the limit is 6';

interface Options {
  readonly clientAuth?: 'require' | 'optional';
  /** The default is a recording backend. */
  readonly forward?: string;
  readonly listener?: Readonly<Record<string, unknown>>;
  readonly more?: Readonly<Record<string, unknown>>;
}

interface Attack {
  readonly version?: (typeof TLS_VERSIONS)[number];
  readonly chain?: Chain;
  /** The source address. */
  readonly from?: string;
  /** The address in a PROXY header. */
  readonly via?: string;
}

async function start({ clientAuth = 'require', forward, listener, more }: Options = {}) {
  const ca = await Authority.create(await temporaryDirectory());
  const server = await ca.server();
  const backend = await RawBackend.start();
  const issued = await ca.client();
  const proxy = await ProxyProcess.start({
    configuration: {
      tls: {
        certificate_path: server.certificatePath,
        key_path: server.keyPath,
        client_auth: clientAuth,
        client_ca_path: ca.caPath,
      },
      workers: 1,
      listeners: [
        { listen: RELAY, forward: forward ?? backend.url, ...listener },
        { listen: GATE, forward: backend.url.replace('tcp:', 'http:') },
      ],
      ...more,
    },
  });
  const dial = async (listen: string, { from, via }: Attack): Promise<Socket> => {
    const raw = connectTcp({ port: await proxy.port(listen), host: '127.0.0.1', localAddress: from });
    onTestFinished(() => void raw.destroy());
    await once(raw, 'connect');
    if (via !== undefined) raw.write(`PROXY TCP4 ${via} 198.51.100.1 40001 9999\r\n`);
    return raw;
  };
  /** The `close.detail` of a client that sends certificates with invalid signatures. */
  const attack = async (listen: string, how: Attack = {}): Promise<unknown> =>
    (await attackLine(listen, how))['close.detail'];
  const attackLine = async (listen: string, how: Attack): Promise<LogLine> => {
    const raw = await dial(listen, how);
    const peer = `${how.via ?? raw.localAddress ?? ''}:${how.via === undefined ? (raw.localPort ?? 0) : 40001}`;
    const lines = proxy.log.lines.length;
    const client = connect({
      socket: raw,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
      secureContext: createSecureContext({
        ...speaking(how.version ?? 'TLSv1.3'),
        // The client's own library must accept the chain.
        ciphers: 'DEFAULT:@SECLEVEL=0',
        cert: toPem(how.chain ?? TWENTY),
        key: LEAF.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      }),
    });
    await readToEnd(client);
    return proxy.log.waitFor(
      (line) => line['peer.address'] === peer && proxy.log.lines.indexOf(line) >= lines,
    );
  };
  /** A client with a certificate of the CA connects, and the proxy has verified it when this returns. */
  const verified = async (how: Attack = {}): Promise<void> => {
    const socket = await dial(RELAY, how);
    const client = await tlsClient(0, {
      socket,
      ca: ca.caPem,
      cert: issued.certificatePem,
      key: issued.keyPem,
    });
    const upstream = await connected(client, backend);
    socket.resetAndDestroy();
    await upstream.ended;
  };
  return { ca, issued, backend, proxy, attack, attackLine, verified };
}

function unsigned(count: number): Chain {
  return unsignedChain(
    LEAF.publicKey,
    Array.from({ length: count - 1 }, () => KEYS.ec('prime256v1')),
  );
}

const TWENTY = unsigned(20);

describe.each([RELAY, GATE])('the very first client of a process that sends (%s)', (listen) => {
  describe.each(TLS_VERSIONS)('in %s', (version) => {
    test('certificates that exceed a limit is refused before a signature is verified', async () => {
      const { backend, proxy, attackLine } = await start();
      expect(await attackLine(listen, { version })).toMatchObject({
        level: 'warning',
        'close.reason': 'handshake_failed',
        'close.initiator': 'proxy',
        'close.detail': GUARDED,
        'close.advice': expect.stringContaining('P-256') as string,
      });
      const details = [
        [unsigned(90), 'client_chain: the handshake of the client is longer than 16384 bytes'],
        [
          unsignedChain(LEAF.publicKey, [KEYS.rsa(2048, 3)]),
          'client_chain: certificate 2 of the client has an RSA key of 16384 bits, the limit is 8192',
        ],
      ] as const;
      for (const [chain, detail] of details)
        expect((await attackLine(listen, { version, chain }))['close.detail']).toBe(detail);
      const reason = { reason: 'client_chain' };
      const failures = 'gitaly_tls_proxy_tls_handshake_failures_total';
      expect((await proxy.scrape()).value(failures, reason)).toBe(3);
      expect(backend.connections).toHaveLength(0);
      await proxy.endsWithNothingLeaked();
    });
  });
});

describe('the address of a client with a verified certificate', () => {
  test.each([RELAY, GATE])('is not guarded any more, on all listeners (%s)', async (listen) => {
    const { proxy, attack, verified } = await start();
    await verified();
    // A stranger whom the guard refuses raises no alarm.
    expect(await attack(listen, { from: STRANGER })).toBe(GUARDED);
    expect(await attack(listen)).toBe(VERIFIED_FIRST);
    await proxy.endsWithNothingLeaked();
  });

  test('stays known across a reload', async () => {
    const { proxy, attack, verified } = await start();
    await verified();
    proxy.signal('SIGHUP');
    await proxy.log.waitForEvent('reloaded');
    expect(await attack(RELAY)).toBe(VERIFIED_FIRST);
    await proxy.endsWithNothingLeaked();
  });

  test('is guarded again after an attack from there, and so are all others', async () => {
    const { proxy, attack, verified } = await start();
    await verified();
    await verified({ from: STRANGER });
    expect(await attack(RELAY)).toBe(VERIFIED_FIRST);
    for (const version of TLS_VERSIONS) {
      expect(await attack(RELAY, { version })).toBe(GUARDED);
      expect(await attack(GATE, { version, from: STRANGER })).toBe(GUARDED);
    }
    await proxy.endsWithNothingLeaked();
  });

  test('is guarded again after a handshake that failed with enough bytes to be certificates', async () => {
    const { proxy, attack, verified } = await start();
    await verified();
    const client = await tcpClient(await proxy.port(RELAY));
    client.write(await recordNode({ servername: 'localhost', ALPNProtocols: ['h2'] }));
    await once(client, 'data');
    client.write(Buffer.concat([Buffer.from([23, 3, 3, 0x10, 0]), randomBytes(0x1000)]));
    await readToEnd(client);
    expect(await attack(RELAY)).toBe(GUARDED);
    await proxy.endsWithNothingLeaked();
  });

  test('is that of the PROXY header, not that of the load balancer', async () => {
    const { proxy, attack, verified } = await start({
      listener: { proxy_protocol: { accept_from: ['127.0.0.0/8'] } },
    });
    await verified({ via: '192.0.2.1' });
    expect(await attack(RELAY, { via: '192.0.2.2' })).toBe(GUARDED);
    expect(await attack(RELAY, { via: '192.0.2.1' })).toBe(VERIFIED_FIRST);
    await proxy.endsWithNothingLeaked();
  });
});

test('with client_auth optional, the address of a client is known once Gitaly has answered a call of it', async () => {
  const forward = await startGrpcBackend();
  const { ca, proxy, attack } = await start({ clientAuth: 'optional', forward });
  const silent = await tlsClient(await proxy.port(RELAY), { ca: ca.caPem });
  // Gitaly's SETTINGS are not an answer.
  silent.write(HTTP2_PREFACE);
  await once(silent, 'data');
  silent.destroy();
  expect(await attack(RELAY)).toBe(GUARDED);
  const client = new GrpcClient(await proxy.address(RELAY), { ca: ca.caPem });
  await client.health();
  client.close();
  expect(await attack(RELAY)).toBe(VERIFIED_FIRST);
  await proxy.endsWithNothingLeaked();
});

test('a guarded client that moves many bytes is asked to connect again, and no call fails', async () => {
  const forward = await startGrpcBackend();
  const { ca, issued, proxy } = await start({ forward, more: { timeouts: { write_stall: '400ms' } } });
  const tls = { ca: ca.caPem, certificate: issued.certificatePem, key: issued.keyPem };
  const client = new GrpcClient(await proxy.address(RELAY), tls);
  const message = Buffer.alloc(2_000_000, 'x');
  const ended = (): LogLine | undefined => proxy.log.lines.find((line) => 'close.reason' in line);
  while (ended() === undefined) expect(await client.repeat(message)).toHaveLength(REPEATS);
  expect(ended()?.['close.reason']).toBe('finished');
  // The second connection is not guarded, and is kept.
  for (let calls = 0; calls < 2; calls++) expect(await client.repeat(message)).toHaveLength(REPEATS);
  client.close();
  await proxy.endsWithNothingLeaked();
});

describe('while clients are guarded', () => {
  test.each(TLS_VERSIONS)(
    'a good one is served, resumed or not, and may end its side first (%s)',
    async (version) => {
      const { ca, backend, proxy, attack, verified } = await start();
      // Raises the alarm.
      await verified();
      expect(await attack(RELAY)).toBe(VERIFIED_FIRST);
      const issued = await (await ca.intermediate('departments')).client();
      const good = { ...speaking(version), ca: ca.caPem, cert: issued.certificatePem, key: issued.keyPem };
      const port = await proxy.port(RELAY);
      const content = randomBytes(1 << 20);
      const served = async (options: ConnectionOptions): Promise<{ session: Buffer; resumed: boolean }> => {
        const client = await tlsClient(port, { ...good, ...options });
        client.write(BACKCHANNEL_PREFACE);
        client.write(content);
        const resumed = client.isSessionReused();
        const upstream = await backend.accept();
        const expected = Buffer.concat([BACKCHANNEL_PREFACE, content]);
        expect((await upstream.receive(expected.length)).equals(expected)).toBe(true);
        upstream.socket.write('an answer');
        await once(client, 'data');
        const session = client.getSession() ?? Buffer.alloc(0);
        client.end();
        expect(await upstream.ended).toBe('end');
        upstream.socket.end(content);
        expect((await readToEnd(client)).received.equals(content)).toBe(true);
        return { session, resumed };
      };
      const { session, resumed } = await served({});
      expect(resumed).toBe(false);
      expect((await served({ session })).resumed).toBe(true);
      // P-521 is not offered: in TLS 1.3 a HelloRetryRequest asks for another share.
      await served({ ecdhCurve: 'P-521:P-256' });
      const finished = (): LogLine[] => proxy.log.lines.filter((line) => line['close.reason'] === 'finished');
      await proxy.log.waitFor(() => finished().length === 3);
      for (const line of finished()) expect(line['peer.identity']).toBe('client.test');
      expect(await attack(RELAY)).toBe(GUARDED);
      await proxy.endsWithNothingLeaked();
    },
  );
});
