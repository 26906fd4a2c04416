import { execFileSync } from 'node:child_process';

import { describe, expect, test } from 'vitest';

import { readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { startSetup } from '../support/setup.js';

const hasOpenssl = (() => {
  try {
    execFileSync('openssl', ['version']);
    return true;
  } catch {
    return false;
  }
})();

describe('TLS towards clients', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s with ALPN h2 is spoken, AES-128 first', async (version) => {
    const { ca, proxy, port } = await startSetup();
    const client = await tlsClient(port, { ca: ca.caPem, minVersion: version, maxVersion: version });
    expect(client.getProtocol()).toBe(version);
    expect(client.alpnProtocol).toBe('h2');
    expect(client.getCipher().standardName).toContain('AES_128_GCM');
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('TLS 1.1 is refused', async () => {
    const { ca, proxy, port } = await startSetup();
    const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await expect(tlsClient(port, { ca: ca.caPem, ...old })).rejects.toThrow(/version/i);
    await proxy.log.waitForClose('handshake_failed');
    const scrape = await proxy.scrape();
    expect(
      scrape.value('gitaly_tls_proxy_tls_handshake_failures_total', { reason: 'unsupported_version' }),
    ).toBe(1);
    await proxy.endsWithNothingLeaked();
  });

  test('a client without ALPN gets the alert no_application_protocol, and the log says what to do', async () => {
    const { ca, backend, proxy, port } = await startSetup();
    const withoutAlpn = { ca: ca.caPem, ALPNProtocols: [] };
    await expect(tlsClient(port, withoutAlpn)).rejects.toThrow(/no application protocol/i);
    const line = await proxy.log.waitForClose('handshake_failed');
    expect(line['close.advice']).toContain('require_alpn: false');
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('require_alpn: false lets a client without ALPN in', async () => {
    const { ca, proxy, port } = await startSetup({ tls: { require_alpn: false } });
    const client = await tlsClient(port, { ca: ca.caPem, ALPNProtocols: [] });
    expect(client.alpnProtocol).toBe(false);
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('a client that offers only http/1.1 is refused with the same alert', async () => {
    const { ca, proxy, port } = await startSetup();
    await expect(tlsClient(port, { ca: ca.caPem, ALPNProtocols: ['http/1.1'] })).rejects.toThrow(
      /no application protocol/i,
    );
    await proxy.endsWithNothingLeaked();
  });

  test('a client that speaks plaintext is told apart and not answered', async () => {
    const { proxy, port } = await startSetup();
    const client = await tcpClient(port);
    client.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    await readToEnd(client);
    const line = await proxy.log.waitForClose('handshake_failed');
    expect(line['close.detail']).toContain('not_tls');
    expect(line['close.advice']).toContain('tls://');
    await proxy.endsWithNothingLeaked();
  });

  test.runIf(hasOpenssl)('renegotiation is off', async () => {
    const { ca, proxy, port } = await startSetup();
    // `R` asks for a renegotiation; a server that allows it answers, one that does not breaks off or ignores it.
    const output = execFileSync(
      'sh',
      [
        '-c',
        `(printf 'R\\n'; head -c 0 /dev/null; cat) < /dev/null | openssl s_client -connect 127.0.0.1:${port} -servername localhost -alpn h2 -tls1_2 -CAfile ${ca.caPath} 2>&1 || true`,
      ],
      { encoding: 'utf8' },
    );
    expect(output).toContain('RENEGOTIATING');
    expect(output).toMatch(/no renegotiation|handshake failure|error/i);
    await proxy.endsWithNothingLeaked();
  });

  test('SNI picks the certificate: an exact name, a wildcard, else the first', async () => {
    const { ca, proxy, port } = await startSetup(async (authority) => {
      const exact = await authority.server({ dns: ['a.example.test'], ip: [] });
      const wildcard = await authority.server({ dns: ['*.example.test'], ip: [] });
      const pair = (issued: typeof exact) => ({
        certificate_path: issued.certificatePath,
        key_path: issued.keyPath,
      });
      return { tls: { certificates: [pair(exact), pair(wildcard)] } };
    });
    const namesFor = async (servername: string): Promise<string | undefined> => {
      const client = await tlsClient(port, {
        ca: ca.caPem,
        servername,
        checkServerIdentity: () => undefined,
      });
      const names = client.getPeerX509Certificate()?.subjectAltName;
      client.destroy();
      return names;
    };
    expect(await namesFor('a.example.test')).toBe('DNS:a.example.test');
    expect(await namesFor('B.example.test')).toBe('DNS:*.example.test');
    expect(await namesFor('other.test')).toContain('DNS:localhost');
    await proxy.endsWithNothingLeaked();
  });
});
