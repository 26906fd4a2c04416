import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createSecureContext, type ConnectionOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { Authority, type Issued } from '../support/authority.js';
import { RawBackend } from '../support/backends.js';
import {
  BACKCHANNEL_PREFACE,
  HTTP2_PREFACE,
  readToEnd,
  speaking,
  tcpClient,
  TLS_VERSIONS,
  tlsClient,
} from '../support/clients.js';
import { LogLines, type LogLine } from '../support/log-lines.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, type Setup } from '../support/setup.js';
import { isInstalled, shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

/** Connects, sends a preface that reaches the backend, and both sides finish; what the log says of it. */
async function passThrough(
  { ca, backend, proxy, port }: Setup,
  options: ConnectionOptions,
): Promise<LogLine> {
  const client = await tlsClient(port, { ca: ca.caPem, ...options });
  const address = `127.0.0.1:${client.localPort ?? 0}`;
  client.write(BACKCHANNEL_PREFACE);
  const upstream = await backend.accept();
  expect(await upstream.receive(BACKCHANNEL_PREFACE.length)).toEqual(BACKCHANNEL_PREFACE);
  client.end();
  await upstream.ended;
  upstream.socket.end();
  await once(client.resume(), 'close');
  return proxy.log.waitFor((line) => line['peer.address'] === address);
}

/** A handshake that must fail: the client's error; returns what the log says of the first that did. */
async function failHandshake(
  { ca, backend, proxy, port }: Setup,
  options: ConnectionOptions,
  clientError: RegExp,
): Promise<LogLine> {
  await expect(tlsClient(port, { ca: ca.caPem, ...options })).rejects.toMatchObject({
    code: expect.stringMatching(clientError) as string,
  });
  const line = await proxy.log.waitForClose('handshake_failed');
  expect(line['level']).toBe('warning');
  expect(backend.connections).toHaveLength(0);
  return line;
}

async function expectCounted(proxy: ProxyProcess, reason: string, count = 1): Promise<void> {
  const failures = 'gitaly_tls_proxy_tls_handshake_failures_total';
  const scrape = await proxy.scrape();
  expect(scrape.value(failures, { reason })).toBe(count);
  expect(scrape.value(failures)).toBe(count);
}

/** The hybrid group, if this version of Node has it. */
const HYBRID = hasHybridGroup() ? ['X25519MLKEM768'] : [];

function hasHybridGroup(): boolean {
  try {
    createSecureContext({ ecdhCurve: 'X25519MLKEM768' });
    return true;
  } catch {
    return false;
  }
}

/** RFC 8446 section 4.2. */
const EXTENSION_GROUPS = 10;
const EXTENSION_SIGNATURE_ALGORITHMS = 13;

/** The content of an extension of a ClientHello that is a vector, in hexadecimal. */
function vectorOf(hello: Buffer, type: number): string {
  // Record header, message header, version and random; then session id, cipher suites, compression methods.
  let offset = 5 + 4 + 2 + 32;
  offset += 1 + hello.readUInt8(offset);
  offset += 2 + hello.readUInt16BE(offset);
  offset += 1 + hello.readUInt8(offset) + 2;
  while (offset < hello.length) {
    const length = hello.readUInt16BE(offset + 2);
    if (hello.readUInt16BE(offset) === type) return hello.toString('hex', offset + 6, offset + 4 + length);
    offset += 4 + length;
  }
  return '';
}

describe('TLS 1.2 and 1.3 only', () => {
  test.each(TLS_VERSIONS)('%s with ALPN h2 is served and logged', async (version) => {
    const setup = await startSetup();
    const { proxy } = setup;
    const line = await passThrough(setup, { ...speaking(version), ALPNProtocols: ['http/1.1', 'h2'] });
    expect(line).toMatchObject({
      'tls.version': version,
      'tls.cipher': expect.stringContaining('AES_128_GCM_SHA256') as string,
      'tls.resumed': false,
      server_name: 'localhost',
    });
    const labels = { version, resumed: 'false' };
    expect((await proxy.scrape()).value('gitaly_tls_proxy_tls_handshakes_total', labels)).toBe(1);
    await proxy.endsWithNothingLeaked();
  });

  test('TLS 1.1 is refused', async () => {
    const setup = await startSetup();
    const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    const line = await failHandshake(setup, old, /PROTOCOL_VERSION/);
    expect(line['close.advice']).toContain('min_version');
    await expectCounted(setup.proxy, 'unsupported_version');
    await setup.proxy.endsWithNothingLeaked();
  });

  test('min_version: "TLS 1.3" refuses TLS 1.2 and takes TLS 1.3', async () => {
    const setup = await startSetup({ tls: { min_version: 'TLS 1.3' } });
    await failHandshake(setup, speaking('TLSv1.2'), /PROTOCOL_VERSION/);
    await expectCounted(setup.proxy, 'unsupported_version');
    await passThrough(setup, speaking('TLSv1.3'));
    await setup.proxy.endsWithNothingLeaked();
  });
});

describe('cipher suites', () => {
  test('AES-128 comes first, whatever the client prefers', async () => {
    const setup = await startSetup(async (ca) => {
      const rsa = await ca.server({ keyType: 'rsa' });
      return { tls: { certificate_path: rsa.certificatePath, key_path: rsa.keyPath } };
    });
    const cipherFor = async (version: (typeof TLS_VERSIONS)[number], ciphers: string): Promise<unknown> =>
      (await passThrough(setup, { ...speaking(version), ciphers }))['tls.cipher'];
    expect(await cipherFor('TLSv1.3', 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256')).toBe(
      'TLS_AES_128_GCM_SHA256',
    );
    expect(await cipherFor('TLSv1.2', 'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256')).toBe(
      'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256',
    );
    expect(await cipherFor('TLSv1.2', 'ECDHE-RSA-CHACHA20-POLY1305')).toBe(
      'TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256',
    );
    await setup.proxy.endsWithNothingLeaked();
  });

  test('without forward secrecy or AEAD are not there', async () => {
    const setup = await startSetup(async (ca) => {
      const rsa = await ca.server({ keyType: 'rsa' });
      return { tls: { certificate_path: rsa.certificatePath, key_path: rsa.keyPath } };
    });
    for (const ciphers of ['AES128-GCM-SHA256', 'ECDHE-RSA-AES128-SHA256', 'DHE-RSA-AES128-GCM-SHA256']) {
      await failHandshake(setup, { ...speaking('TLSv1.2'), ciphers }, /HANDSHAKE_FAILURE/);
    }
    await expectCounted(setup.proxy, 'no_shared_cipher', 3);
    await setup.proxy.endsWithNothingLeaked();
  });
});

describe('key exchange groups', () => {
  test('are X25519, P-256, P-384 and the hybrid of X25519 and ML-KEM, and none that costs more', async () => {
    // In TLS 1.2 the groups of a client must include the curve of an ECDSA certificate.
    const setup = await startSetup(async (ca) => {
      const rsa = await ca.server({ keyType: 'rsa' });
      return { tls: { certificate_path: rsa.certificatePath, key_path: rsa.keyPath } };
    });
    const refused = ['ffdhe2048', 'ffdhe3072', 'ffdhe4096', 'ffdhe6144', 'ffdhe8192', 'X448', 'P-521'];
    for (const ecdhCurve of refused)
      await failHandshake(setup, { ...speaking('TLSv1.3'), ecdhCurve }, /HANDSHAKE_FAILURE/);
    await failHandshake(setup, { ...speaking('TLSv1.2'), ecdhCurve: 'P-521' }, /HANDSHAKE_FAILURE/);
    for (const ecdhCurve of ['X25519', 'P-256', 'P-384', 'P-521:X25519', ...HYBRID])
      await passThrough(setup, { ...speaking('TLSv1.3'), ecdhCurve });
    for (const ecdhCurve of ['P-256', 'P-384'])
      await passThrough(setup, { ...speaking('TLSv1.2'), ecdhCurve });
    await expectCounted(setup.proxy, 'no_shared_cipher', refused.length + 1);
    await setup.proxy.endsWithNothingLeaked();
  });

  test('and signature algorithms are the same towards an upstream', async () => {
    const backend = await RawBackend.start();
    const listen = 'tcp://127.0.0.1:0';
    const forward = backend.url.replace('tcp://', 'tls://');
    const proxy = await ProxyProcess.start({ configuration: { listeners: [{ listen, forward }] } });
    const port = await proxy.port(listen);
    const client = await tcpClient(port);
    client.write(HTTP2_PREFACE);
    const upstream = await backend.accept();
    const hello = await upstream.receive(5 + (await upstream.receive(5)).readUInt16BE(3));
    const hybrid = HYBRID.length > 0 ? '11ec' : '';
    expect(vectorOf(hello, EXTENSION_GROUPS)).toBe(`${hybrid}001d00170018`);
    const algorithms = vectorOf(hello, EXTENSION_SIGNATURE_ALGORITHMS).match(/.{4}/g) ?? [];
    expect(algorithms).toHaveLength(13);
    // RFC 8446 section 4.2.3: SHA-1 ends in 01 or 02 behind hash 02; Ed448 is 0808.
    expect(algorithms).not.toContain('0808');
    expect(algorithms.filter((algorithm) => algorithm.startsWith('02'))).toEqual([]);
    client.destroy();
    await upstream.ended;
    await proxy.endsWithNothingLeaked();
  });
});

describe('ALPN', () => {
  test.each(TLS_VERSIONS)(
    'a client without ALPN gets the alert no_application_protocol, and the log has the fix (%s)',
    async (version) => {
      const setup = await startSetup();
      const line = await failHandshake(
        setup,
        { ...speaking(version), ALPNProtocols: [] },
        /ALERT_NO_APPLICATION_PROTOCOL/,
      );
      expect(line).toMatchObject({ 'close.initiator': 'proxy', server_name: 'localhost' });
      expect(line['close.detail']).toBe(
        `no_application_protocol: the client at ${String(line['peer.address'])} offered no ALPN`,
      );
      expect(line['close.advice']).toContain('`require_alpn: false`, which is what Gitaly does');
      await expectCounted(setup.proxy, 'no_application_protocol');
      await setup.proxy.endsWithNothingLeaked();
    },
  );

  test.each(TLS_VERSIONS)('a client that offers only http/1.1 gets the same alert (%s)', async (version) => {
    const setup = await startSetup();
    const options = { ...speaking(version), ALPNProtocols: ['http/1.1'] };
    const line = await failHandshake(setup, options, /ALERT_NO_APPLICATION_PROTOCOL/);
    expect(line['close.detail']).toContain('offered ALPN ["http/1.1"] without h2');
    expect(line['close.advice']).toContain('ALPN h2');
    await expectCounted(setup.proxy, 'no_application_protocol');
    await setup.proxy.endsWithNothingLeaked();
  });

  test('require_alpn: false lets a client without it through to Gitaly, of one listener only if it stands there', async () => {
    const setup = await startSetup({ listener: { tls: { require_alpn: false } } });
    for (const version of TLS_VERSIONS) await passThrough(setup, { ...speaking(version), ALPNProtocols: [] });
    await setup.proxy.endsWithNothingLeaked();
  });
});

describe('renegotiation', () => {
  test.runIf(isInstalled('openssl'))(
    'is refused, and ends the connection of the client that requests it',
    async () => {
      const { ca, backend, proxy, port } = await startSetup();
      const to = ['-connect', `127.0.0.1:${port}`, '-servername', 'localhost', '-alpn', 'h2'];
      const client = spawn('openssl', ['s_client', ...to, '-tls1_2', '-CAfile', ca.caPath]);
      onTestFinished(() => void client.kill());
      const [output, errors] = [new LogLines(client.stdout), new LogLines(client.stderr)];
      const closed = once(client, 'close');
      await output.waitForText('Verify return code: 0 (ok)');
      // A line with nothing but `R` tells s_client to ask for it.
      client.stdin.write('R\n');
      await errors.waitForText('no renegotiation');
      await closed;
      expect(output.text + errors.text).toContain('RENEGOTIATING');
      await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_closed_total') === 1);
      expect(backend.connections).toHaveLength(0);
      await proxy.endsWithNothingLeaked();
    },
  );
});

describe('SNI picks the certificate', () => {
  test('an exact name, else a wildcard for one label, else the first; the log has the name', async () => {
    const setup = await startSetup(async (ca) => {
      const pair = ({ certificatePath, keyPath }: Issued) => ({
        certificate_path: certificatePath,
        key_path: keyPath,
      });
      const wildcard = await ca.server({ dns: ['*.example.test'], ip: [], keyType: 'rsa' });
      const exact = await ca.server({ dns: ['a.example.test', 'a.test'], ip: [] });
      return { tls: { certificates: [pair(wildcard), pair(exact)] } };
    });
    const { proxy, port } = setup;
    const namesFor = async (servername: string, version: (typeof TLS_VERSIONS)[number]): Promise<unknown> => {
      const client = await tlsClient(port, {
        ...speaking(version),
        ca: setup.ca.caPem,
        servername,
        // Which certificate comes is what is asked here.
        checkServerIdentity: () => undefined,
      });
      const names = client.getPeerX509Certificate()?.subjectAltName;
      client.end(HTTP2_PREFACE.subarray(0, 1));
      await readToEnd(client);
      return names;
    };
    for (const version of TLS_VERSIONS) {
      expect(await namesFor('a.example.test', version)).toBe('DNS:a.example.test, DNS:a.test');
      expect(await namesFor('A.TEST', version)).toBe('DNS:a.example.test, DNS:a.test');
      expect(await namesFor('b.example.test', version)).toBe('DNS:*.example.test');
      expect(await namesFor('c.b.example.test', version)).toContain('DNS:localhost');
      expect(await namesFor('example.test', version)).toContain('DNS:localhost');
      expect(await namesFor('other.test', version)).toContain('DNS:localhost');
      // An empty name is not sent, as with clients that dial an IP address.
      expect(await namesFor('', version)).toContain('DNS:localhost');
    }
    await proxy.log.waitForEvent('connection_closed', { server_name: 'c.b.example.test' });
    await proxy.endsWithNothingLeaked();
  });
});

describe('a failed handshake is logged and counted', () => {
  test('plaintext on the TLS port, which is not answered', async () => {
    const { backend, proxy, port } = await startSetup();
    const plaintext = {
      'plaintext HTTP/2': HTTP2_PREFACE,
      'the plaintext backchannel': BACKCHANNEL_PREFACE,
      'HTTP/1': Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'),
      neither: Buffer.from([0, 1, 2, 3, 4]),
    };
    for (const [name, bytes] of Object.entries(plaintext)) {
      const client = await tcpClient(port);
      const address = `127.0.0.1:${client.localPort ?? 0}`;
      client.write(bytes);
      expect((await readToEnd(client)).received, name).toHaveLength(0);
      const line = await proxy.log.waitFor((candidate) => candidate['peer.address'] === address);
      expect(line['close.reason'], name).toBe('handshake_failed');
      expect(line['close.detail'], name).toContain(`not_tls: the client does not speak TLS but ${name}`);
      expect(line['close.advice'], name).toContain('tls://');
    }
    await expectCounted(proxy, 'not_tls', 4);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('TLS on a plaintext port', async () => {
    const listen = 'tcp://127.0.0.1:0';
    const { ca, backend, proxy, port } = await startSetup({ listener: { listen } });
    await expect(tlsClient(port, { ca: ca.caPem })).rejects.toThrow();
    const line = await proxy.log.waitForClose('protocol_unknown');
    expect(line['close.detail']).toContain('a TLS handshake: this listener is plaintext');
    expect(line['close.advice']).toContain('dial tcp:// instead of tls://');
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('silence, and half a ClientHello, at the deadline', async () => {
    const { backend, proxy, port } = await startSetup({ more: { timeouts: { handshake: '200ms' } } });
    const ends = [Buffer.alloc(0), Buffer.from('16030100c8010000c40303', 'hex')].map(async (bytes) => {
      const client = await tcpClient(port);
      const address = `127.0.0.1:${client.localPort ?? 0}`;
      client.write(bytes);
      await readToEnd(client);
      return proxy.log.waitFor((line) => line['peer.address'] === address);
    });
    for (const line of await Promise.all(ends)) {
      expect(line).toMatchObject({ 'close.reason': 'handshake_failed', 'close.initiator': 'proxy' });
      expect(line['close.detail']).toContain('timeout');
    }
    await expectCounted(proxy, 'timeout', 2);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test.runIf(isInstalled('openssl'))(
    'a client that does not trust the certificate, which only the log of the server explains',
    async () => {
      const { backend, proxy, port } = await startSetup();
      const other = await Authority.create(await temporaryDirectory(), 'other');
      const to = `-connect 127.0.0.1:${port} -servername localhost -alpn h2`;
      for (const version of ['-tls1_2', '-tls1_3']) {
        const trust = `-CAfile ${other.caPath} -verify_return_error`;
        const { exitCode } = await shell(`openssl s_client ${to} ${version} ${trust} </dev/null`);
        expect(exitCode).toBe(1);
      }
      const line = await proxy.log.waitForClose('handshake_failed');
      expect(line['close.detail']).toContain('certificate_rejected_by_client');
      expect(line['close.advice']).toContain("does not trust this listener's certificate");
      await proxy.scrapeUntil((scrape) => scrape.value('gitaly_tls_proxy_connections_closed_total') === 2);
      await expectCounted(proxy, 'certificate_rejected_by_client', 2);
      expect(backend.connections).toHaveLength(0);
      await proxy.endsWithNothingLeaked();
    },
  );
});
