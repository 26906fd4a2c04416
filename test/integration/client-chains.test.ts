import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createSecureContext, type ConnectionOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { RawBackend } from '../support/backends.js';
import { KEYS, toPem, unsignedChain } from '../support/certificate-chains.js';
import {
  BACKCHANNEL_PREFACE,
  readToEnd,
  speaking,
  tcpClient,
  TLS_VERSIONS,
  tlsClient,
} from '../support/clients.js';
import type { LogLine } from '../support/log-lines.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { recordNode } from '../tls/recorded-client-hello.js';

const [RELAY, GATE] = ['tls://127.0.0.1:0', 'https://127.0.0.1:0'];
const LEAF = generateKeyPairSync('ec', { namedCurve: 'P-256' });

type Chain = ReturnType<typeof unsignedChain>;

async function start() {
  const ca = await Authority.create(await temporaryDirectory());
  const server = await ca.server();
  const backend = await RawBackend.start();
  const proxy = await ProxyProcess.start({
    configuration: {
      tls: {
        certificate_path: server.certificatePath,
        key_path: server.keyPath,
        client_auth: 'require',
        client_ca_path: ca.caPath,
      },
      workers: 1,
      listeners: [
        { listen: RELAY, forward: backend.url },
        { listen: GATE, forward: backend.url.replace('tcp:', 'http:') },
      ],
    },
  });
  /** What the log says of a client that sends these certificates. */
  const attack = async (
    listen: string,
    version: (typeof TLS_VERSIONS)[number],
    chain: Chain,
  ): Promise<LogLine> => {
    const client = connect({
      host: '127.0.0.1',
      port: await proxy.port(listen),
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
      secureContext: createSecureContext({
        ...speaking(version),
        // The client's own library must take what it is to send.
        ciphers: 'DEFAULT:@SECLEVEL=0',
        cert: toPem(chain),
        key: LEAF.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      }),
    });
    onTestFinished(() => void client.destroy());
    const left = readToEnd(client);
    await Promise.race([once(client, 'connect'), left]);
    const address = `127.0.0.1:${client.localPort ?? 0}`;
    await left;
    return proxy.log.waitFor((line) => line['peer.address'] === address);
  };
  return { ca, backend, proxy, attack };
}

function unsigned(count: number): Chain {
  return unsignedChain(
    LEAF.publicKey,
    Array.from({ length: count - 1 }, () => KEYS.ec('prime256v1')),
  );
}

test.each([RELAY, GATE])(
  '%s: the client that sends too many certificates is refused; from then on before one is verified, in TLS 1.2 and 1.3',
  async (listen) => {
    const { backend, proxy, attack } = await start();
    // OpenSSL has the first, and the chain is counted afterwards only as far as the limit.
    const first = await attack(listen, 'TLSv1.3', unsigned(20));
    expect(first).toMatchObject({
      level: 'warning',
      'close.reason': 'handshake_failed',
      'close.initiator': 'proxy',
      'close.detail': 'client_chain: the client sent 7 certificates, the limit is 6',
      'close.advice': expect.stringContaining('P-256') as string,
    });
    for (const version of TLS_VERSIONS) {
      expect((await attack(listen, version, unsigned(20)))['close.detail']).toBe(
        'client_chain: the client sent 20 certificates, the limit is 6',
      );
      expect((await attack(listen, version, unsigned(90)))['close.detail']).toBe(
        'client_chain: the handshake of the client is longer than 16384 bytes',
      );
    }
    const reason = { reason: 'client_chain' };
    const failures = 'gitaly_tls_proxy_tls_handshake_failures_total';
    expect((await proxy.scrape()).value(failures, reason)).toBe(5);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  },
);

test('so it is after a handshake that fails with so many bytes that they may have been certificates', async () => {
  const { proxy, attack } = await start();
  const client = await tcpClient(await proxy.port(RELAY));
  client.write(await recordNode({ servername: 'localhost', ALPNProtocols: ['h2'] }));
  await once(client, 'data');
  client.write(Buffer.concat([Buffer.from([23, 3, 3, 0x10, 0]), randomBytes(0x1000)]));
  await readToEnd(client);
  expect((await attack(RELAY, 'TLSv1.3', unsigned(20)))['close.detail']).toContain('sent 20 certificates');
  await proxy.endsWithNothingLeaked();
});

describe('while clients are read ahead of OpenSSL', () => {
  test.each(TLS_VERSIONS)(
    'a good one is served as ever, resumed or not, and may end its side first (%s)',
    async (version) => {
      const { ca, backend, proxy, attack } = await start();
      await attack(RELAY, version, unsigned(20));
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
      await proxy.endsWithNothingLeaked();
    },
  );
});
