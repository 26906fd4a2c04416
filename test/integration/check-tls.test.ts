import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { Authority, type Issued } from '../support/authority.js';
import { RawBackend } from '../support/backends.js';
import { checkSteps } from '../support/check-command.js';
import { opensslServer, requiringClients } from '../support/openssl-server.js';
import { isInstalled, shell } from '../support/shell.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { TLS_LISTENER } from '../support/setup.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { TLS_VERSIONS } from '../support/clients.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DAY_MS = 86_400_000;

const hasOpenssl = isInstalled('openssl');

function serving({ certificatePem, keyPem }: Pick<Issued, 'certificatePem' | 'keyPem'>) {
  return { cert: certificatePem, key: keyPem };
}

function inDays(days: number): Date {
  return new Date(Date.now() + days * DAY_MS);
}

async function createCa(name = 'ca'): Promise<Authority> {
  return Authority.create(await temporaryDirectory(), name);
}

/** Checks a Gitaly with a certificate. */
async function checkCertificate(
  ca: Authority,
  issued: Pick<Issued, 'certificatePem' | 'keyPem'>,
  args: readonly string[] = [],
) {
  const gitaly = await StandInGitaly.start({ tls: serving(issued) });
  return checkSteps([gitaly.url, '--ca', ca.caPath, ...args]);
}

/** What a server sends whose certificate file holds the leaf alone. */
function withoutIntermediates({ certificatePem, keyPem }: Issued): Pick<Issued, 'certificatePem' | 'keyPem'> {
  const [leaf = ''] = certificatePem.split(/(?<=-----END CERTIFICATE-----)/u);
  return { certificatePem: leaf, keyPem };
}

describe('names', () => {
  test("a certificate with only a Common Name fails with the words of GitLab's documentation", async () => {
    const ca = await createCa();
    const { exitCode, step } = await checkCertificate(
      ca,
      await ca.server({ dns: [], ip: [], commonName: 'localhost' }),
    );
    expect(step('san').result).toBe('failed');
    expect(step('san').detail).toBe(
      'x509: certificate relies on legacy Common Name field, use SANs or temporarily enable Common Name matching with GODEBUG=x509ignoreCN=0',
    );
    expect(step('san').cure).toContain('SAN');
    expect(step('chain').result).toBe('passed');
    expect(exitCode).toBe(1);
  });

  test('one of another name fails and tells its names', async () => {
    const ca = await createCa();
    const { step } = await checkCertificate(ca, await ca.server({ dns: ['gitaly-b.internal'], ip: [] }));
    expect(step('san')).toMatchObject({ result: 'failed', dns: ['gitaly-b.internal'] });
    expect(step('san').detail).toContain(
      'is not valid for localhost; the names that it has: gitaly-b.internal',
    );
  });

  test('--server-name says another name to ask for and to look for', async () => {
    const ca = await createCa();
    const issued = await ca.server({ dns: ['gitaly-b.internal'], ip: [] });
    const { exitCode } = await checkCertificate(ca, issued, ['--server-name', 'gitaly-b.internal']);
    expect(exitCode).toBe(0);
  });
});

describe('the chain', () => {
  test('is printed as it was sent, the leaf first', async () => {
    const ca = await createCa();
    const issued = await (await ca.intermediate('issuing')).server({ commonName: 'leaf' });
    const { step, exitCode } = await checkCertificate(ca, issued);
    expect(step('chain')).toMatchObject({
      result: 'passed',
      sent: [
        { subject: 'CN=leaf', issuer: 'CN=issuing' },
        { subject: 'CN=issuing', issuer: 'CN=ca' },
      ],
    });
    expect(exitCode).toBe(0);
  });

  test.each(TLS_VERSIONS)('an intermediate that is not sent is named (%s)', async (version) => {
    const ca = await createCa();
    const issued = await (await ca.intermediate('issuing')).server();
    const tls = { ...serving(withoutIntermediates(issued)), minVersion: version, maxVersion: version };
    const gitaly = await StandInGitaly.start({ tls });
    const { step } = await checkSteps([gitaly.url, '--ca', ca.caPath]);
    expect(step('tls')).toMatchObject({ result: 'passed', version });
    expect(step('chain').result).toBe('failed');
    expect(step('chain').detail).toMatch(/^x509: certificate signed by unknown authority: .*CN=issuing/);
    expect(step('chain').cure).toContain('append the certificate of CN=issuing');
    expect(step('chain')).toMatchObject({ sent: [{ issuer: 'CN=issuing' }] });
  });

  test('an authority that is not trusted is named', async () => {
    const [ca, stranger] = [await createCa(), await createCa('stranger')];
    const { step } = await checkCertificate(ca, await stranger.server());
    expect(step('chain').result).toBe('failed');
    expect(step('chain').detail).toContain('CN=stranger');
    expect(step('san').result).toBe('passed');
  });

  test("passes with an intermediate alone, and with the server's own certificate, as what is trusted", async () => {
    const root = await createCa();
    const between = await root.intermediate('between');
    const issued = await between.server();
    const gitaly = await StandInGitaly.start({ tls: serving(issued) });
    for (const ca of [between.caPath, issued.certificatePath]) {
      const { step } = await checkSteps([gitaly.url, '--ca', ca]);
      expect(step('chain').result).toBe('passed');
    }
  });

  test.runIf(hasOpenssl)('a self-signed certificate', async () => {
    const ca = await createCa();
    const directory = await temporaryDirectory();
    const [certificate, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
    await shell(
      `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout ${key} -out ${certificate}`,
    );
    const issued = {
      certificatePem: await readFile(certificate, 'utf8'),
      keyPem: await readFile(key, 'utf8'),
    };
    const { step } = await checkCertificate(ca, issued);
    expect(step('chain').detail).toContain('is self-signed and is not among the trusted authorities');
    const trusting = await StandInGitaly.start({ tls: serving(issued) });
    expect((await checkSteps([trusting.url, '--ca', certificate])).step('chain').result).toBe('passed');
  });

  test('SSL_CERT_FILE names the authorities where --ca does not', async () => {
    const ca = await createCa();
    const gitaly = await StandInGitaly.start({ tls: serving(await ca.server()) });
    const { exitCode, step } = await checkSteps([gitaly.url], { SSL_CERT_FILE: ca.caPath, SSL_CERT_DIR: '' });
    expect(step('chain')).toMatchObject({ trusted_from: ca.caPath });
    expect(exitCode).toBe(0);
  });

  test('a certificate that was issued for clients alone', async () => {
    const ca = await createCa();
    const { step } = await checkCertificate(ca, await ca.server({ usages: ['clientAuth'] }));
    expect(step('chain').detail).toContain('is not meant for a server');
    expect(step('chain').cure).toContain('serverAuth');
  });
});

describe('expiry', () => {
  test('warns from 30 days on, and fails nothing', async () => {
    const ca = await createCa();
    const { exitCode, step } = await checkCertificate(ca, await ca.server({ notAfter: inDays(29.5) }));
    expect(step('expiry')).toMatchObject({ result: 'passed', days_left: 29 });
    expect(step('expiry').warning).toContain('expires in 29 days');
    expect(exitCode).toBe(0);
  });

  test('does not warn before', async () => {
    const ca = await createCa();
    // The CA of these tests ends in 30 days, and is not sent.
    const { step } = await checkCertificate(ca, await ca.server({ notAfter: inDays(40) }));
    expect(step('expiry')).toMatchObject({ result: 'passed', days_left: 39 });
    expect(step('expiry').warning).toBeUndefined();
  });

  test.each([
    ['has ended', -30, -1, 'expired on'],
    ['has not begun', 1, 30, 'is not valid before'],
  ])('a certificate that %s fails, and its chain does not for that', async (_what, from, to, words) => {
    const ca = await createCa();
    const issued = await ca.server({ notBefore: inDays(from), notAfter: inDays(to) });
    const { exitCode, step } = await checkCertificate(ca, issued);
    expect(step('expiry').detail).toMatch(
      new RegExp(`^x509: certificate has expired or is not yet valid: .*${words}`),
    );
    expect(step('chain').result).toBe('passed');
    expect(exitCode).toBe(1);
  });
});

describe('ALPN', () => {
  test.runIf(hasOpenssl)(
    'a server that selects none fails with the words of current gRPC clients',
    async () => {
      const ca = await createCa();
      const port = await opensslServer(await ca.server(), []);
      const { step } = await checkSteps([`tls://localhost:${port}`, '--ca', ca.caPath, '--timeout', '500ms']);
      expect(step('tls').result).toBe('passed');
      expect(step('alpn')).toMatchObject({
        result: 'failed',
        protocol: null,
        detail: 'credentials: cannot check peer: missing selected ALPN property',
      });
    },
  );

  test('a server that knows other protocols alone', async () => {
    const ca = await createCa();
    const tls = { ...serving(await ca.server()), ALPNProtocols: ['http/1.1'] };
    const gitaly = await StandInGitaly.start({ tls });
    const { step } = await checkSteps([gitaly.url, '--ca', ca.caPath]);
    expect(step('tls').detail).toContain('the server does not offer h2 with ALPN');
    expect(step('alpn').result).toBe('skipped');
  });
});

describe('TLS', () => {
  test('a server of TLS 1.2 alone', async () => {
    const ca = await createCa();
    const tls = { ...serving(await ca.server({ keyType: 'rsa' })), maxVersion: 'TLSv1.2' } as const;
    const gitaly = await StandInGitaly.start({ tls });
    const { exitCode, step } = await checkSteps([gitaly.url, '--ca', ca.caPath]);
    expect(step('tls')).toMatchObject({ version: 'TLSv1.2' });
    expect(step('tls').detail).toContain('TLS_ECDHE_RSA_WITH_');
    expect(exitCode).toBe(0);
  });

  test.each(['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'])(
    'what was sent is read in TLS 1.3 with %s',
    async (ciphers) => {
      const ca = await createCa();
      const tls = { ...serving(await ca.server()), ciphers, requestCert: true, rejectUnauthorized: false };
      const gitaly = await StandInGitaly.start({ tls });
      const { step } = await checkSteps([gitaly.url, '--ca', ca.caPath]);
      expect(step('tls')).toMatchObject({ cipher: ciphers });
      expect(step('client_certificate')).toMatchObject({ asked_for: true });
      expect(step('chain')).toMatchObject({ sent: [{ issuer: 'CN=ca' }] });
    },
  );

  test('tls:// at a plaintext port', async () => {
    const gitaly = await StandInGitaly.start();
    const { step } = await checkSteps([`tls://127.0.0.1:${gitaly.port}`, '--timeout', '2s']);
    expect(step('tls').result).toBe('failed');
    expect(step('tls').cure).toContain('tcp://');
    expect(step('chain')).toMatchObject({ result: 'skipped' });
  });

  test('tls:// at a port that says nothing', async () => {
    const backend = await RawBackend.start();
    const { step } = await checkSteps([backend.url.replace('tcp', 'tls'), '--timeout', '300ms']);
    expect(step('tls')).toMatchObject({ result: 'failed', detail: 'no TLS handshake within 300 ms' });
  });

  test('tcp:// at a port of TLS', async () => {
    const ca = await createCa();
    const gitaly = await StandInGitaly.start({
      tls: serving(await ca.server({ dns: ['gitaly-a.internal'] })),
    });
    const url = `127.0.0.1:${gitaly.port}`;
    const { step } = await checkSteps([`tcp://${url}`, '--timeout', '2s']);
    expect(step('connect').result).toBe('passed');
    expect(step('health_http2')).toMatchObject({ result: 'failed', speaks_tls: true });
    expect(step('health_http2').detail).toContain(
      'the server speaks TLS on this port (TLSv1.3, certificate for gitaly-a.internal',
    );
    expect(step('health_http2').cure).toBe(`check tls://${url}, and use it as gitaly_address`);
    expect(step('health_backchannel').cure).toContain('HTTP/2 fails as well');
  });

  test.each([
    ['a name', 'localhost', 'has no certificate or upstream for the name localhost'],
    ['an IP address', '127.0.0.1', 'which clients do not send for an IP address'],
  ])('%s that the server does not know', async (_what, host, words) => {
    const ca = await createCa();
    const gitaly = await StandInGitaly.start();
    const { certificatePath, keyPath } = await ca.server({ dns: ['gitaly-a.internal'] });
    const proxy = await ProxyProcess.start({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [{ listen: TLS_LISTENER, forward_by_server_name: { 'gitaly-a.internal': gitaly.url } }],
      },
    });
    const port = await proxy.port(TLS_LISTENER);
    const { step } = await checkSteps([`tls://${host}:${port}`, '--ca', ca.caPath]);
    expect(step('tls')).toMatchObject({ result: 'failed' });
    expect(step('tls').detail).toContain(words);
    expect(step('tls').cure).toContain('--server-name');
    // Its port speaks TLS, whatever the alert.
    const plain = await checkSteps([`tcp://${host}:${port}`]);
    expect(plain.step('health_http2')).toMatchObject({ speaks_tls: true });
    await proxy.endsWithNothingLeaked();
  });
});

describe('the client certificate', () => {
  async function askingGitaly(version: (typeof TLS_VERSIONS)[number], ca: Authority, rejects: boolean) {
    const tls = {
      ...serving(await ca.server()),
      ca: ca.caPem,
      requestCert: true,
      rejectUnauthorized: rejects,
      minVersion: version,
      maxVersion: version,
    };
    return StandInGitaly.start({ tls });
  }

  async function presenting(ca: Authority): Promise<string[]> {
    const { certificatePath, keyPath } = await ca.client();
    return ['--client-cert', certificatePath, '--client-key', keyPath];
  }

  describe.each(TLS_VERSIONS)('%s', (version) => {
    test('that is asked for and not required', async () => {
      const ca = await createCa();
      const gitaly = await askingGitaly(version, ca, false);
      const { exitCode, step } = await checkSteps([gitaly.url, '--ca', ca.caPath]);
      expect(step('client_certificate').detail).toBe('requested, but not required');
      expect(exitCode).toBe(0);
    });

    test('that is asked for, and ours is accepted', async () => {
      const ca = await createCa();
      const gitaly = await askingGitaly(version, ca, true);
      const { exitCode, step } = await checkSteps([gitaly.url, '--ca', ca.caPath, ...(await presenting(ca))]);
      expect(step('client_certificate').detail).toBe('requested, and that of --client-cert is accepted');
      expect(exitCode).toBe(0);
    });

    test('that is not asked for, and ours is not sent', async () => {
      const ca = await createCa();
      const tls = { ...serving(await ca.server()), minVersion: version, maxVersion: version };
      const gitaly = await StandInGitaly.start({ tls });
      const { step } = await checkSteps([gitaly.url, '--ca', ca.caPath, ...(await presenting(ca))]);
      expect(step('client_certificate')).toMatchObject({ asked_for: false, given: true, result: 'passed' });
    });

    test.runIf(hasOpenssl)('that is required, and none is given', async () => {
      const ca = await createCa();
      const options = requiringClients(ca, version === 'TLSv1.2' ? '-tls1_2' : '-tls1_3');
      const port = await opensslServer(await ca.server(), options);
      const { exitCode, step } = await checkSteps([`tls://localhost:${port}`, '--ca', ca.caPath]);
      expect(step('client_certificate')).toMatchObject({ result: 'failed', asked_for: true, given: false });
      expect(step('client_certificate').detail).toContain('required, and none was given');
      expect(step('client_certificate').cure).toContain('--client-cert and --client-key');
      // Its own certificates came before that.
      expect(step('chain').result).toBe('passed');
      expect(step('health_http2').result).toBe('skipped');
      expect(exitCode).toBe(1);
    });

    test.runIf(hasOpenssl)('that is required, and ours is refused', async () => {
      const [ca, stranger] = [await createCa(), await createCa('stranger')];
      const options = requiringClients(ca, version === 'TLSv1.2' ? '-tls1_2' : '-tls1_3');
      const port = await opensslServer(await ca.server(), options);
      const args = [`tls://localhost:${port}`, '--ca', ca.caPath, ...(await presenting(stranger))];
      const { step } = await checkSteps(args);
      expect(step('client_certificate')).toMatchObject({ result: 'failed', given: true });
      expect(step('client_certificate').detail).toContain('that of --client-cert is refused');
    });
  });

  test('that is refused in the answer to a call, with the reason', async () => {
    const ca = await createCa();
    const server = createSecureServer({
      ...serving(await ca.server()),
      requestCert: true,
      rejectUnauthorized: false,
    });
    server.on('stream', (stream) =>
      stream.respond(
        {
          'content-type': 'application/grpc',
          'grpc-status': '16',
          'grpc-message': 'the client certificate is missing',
        },
        { endStream: true },
      ),
    );
    await once(server.listen(0, '127.0.0.1'), 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const { step, exitCode } = await checkSteps([`tls://localhost:${port}`, '--ca', ca.caPath]);
    expect(step('client_certificate')).toMatchObject({ result: 'failed', given: false });
    expect(step('client_certificate').detail).toBe(
      'required, and none was given (Unauthenticated: the client certificate is missing)',
    );
    expect(exitCode).toBe(1);
  });

  test('a key that belongs to another certificate is exit code 2', async () => {
    const ca = await createCa();
    const [one, other] = [await ca.client(), await ca.client()];
    const mixed = join(await temporaryDirectory(), 'key.pem');
    await writeFile(mixed, other.keyPem, { mode: 0o600 });
    const result = await shell(
      `${process.execPath} dist/cli.js check tls://127.0.0.1:1 --client-cert ${one.certificatePath} --client-key ${mixed}`,
    );
    expect(result.output).toContain('does not match the certificate');
    expect(result.exitCode).toBe(2);
  });
});
