import { once } from 'node:events';
import { rename, writeFile } from 'node:fs/promises';
import type { ConnectionOptions, TLSSocket } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { Authority, type Issued } from '../support/authority.js';
import { HTTP2_PREFACE, readToEnd, tlsClient } from '../support/clients.js';
import { startSetup, type Setup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DAY_MS = 86_400_000;

/** Sends a preface as the client would, and waits for the end. */
async function tryClient(port: number, options: ConnectionOptions): Promise<void> {
  // In TLS 1.2 the refusal may come within the handshake, in TLS 1.3 after it: both end here.
  const client = await tlsClient(port, options).catch(() => undefined);
  if (!client) return;
  client.write(HTTP2_PREFACE);
  await readToEnd(client);
}

function present(issued: Issued): ConnectionOptions {
  return { cert: issued.certificatePem, key: issued.keyPem };
}

const bad: [string, (ca: Authority) => Promise<ConnectionOptions>][] = [
  ['absent', () => Promise.resolve({})],
  [
    'unknown_authority',
    async () => present(await (await Authority.create(await temporaryDirectory(), 'other')).client()),
  ],
  [
    'expired',
    async (ca) =>
      present(
        await ca.client({
          notAfter: new Date(Date.now() - DAY_MS),
          notBefore: new Date(Date.now() - 2 * DAY_MS),
        }),
      ),
  ],
  ['not_yet_valid', async (ca) => present(await ca.client({ notBefore: new Date(Date.now() + DAY_MS) }))],
  ['invalid_purpose', async (ca) => present(await ca.client({ usages: ['serverAuth'] }))],
];

describe('client_auth: require', () => {
  describe.each(['TLSv1.2', 'TLSv1.3'] as const)('in %s', (version) => {
    test.each(bad)(
      '%s is refused before a byte reaches Gitaly, with its own reason',
      async (result, options) => {
        const { ca, backend, proxy, port } = await startSetup((authority) => ({
          tls: { client_auth: 'require', client_ca_path: authority.caPath },
        }));
        await tryClient(port, {
          ca: ca.caPem,
          minVersion: version,
          maxVersion: version,
          ...(await options(ca)),
        });
        await proxy.log.waitForClose('client_certificate_refused');
        const scrape = await proxy.scrape();
        expect(scrape.value('gitaly_tls_proxy_tls_client_certificates_total', { result })).toBe(1);
        expect(scrape.value('gitaly_tls_proxy_tls_client_certificates_total')).toBe(1);
        expect(backend.connections).toHaveLength(0);
        await proxy.endsWithNothingLeaked();
      },
    );
  });

  test('a revoked one is refused, with its own reason', async () => {
    let revoked: Issued | undefined;
    const { ca, backend, proxy, port } = await startSetup(async (authority) => {
      revoked = await authority.client();
      const crl = await authority.revocationList([revoked.serialNumber]);
      return { tls: { client_auth: 'require', client_ca_path: authority.caPath, client_crl_path: crl } };
    });
    if (!revoked) throw new Error('the setup has made it');
    await tryClient(port, { ca: ca.caPem, ...present(revoked) });
    await proxy.log.waitForClose('client_certificate_refused');
    expect(
      (await proxy.scrape()).value('gitaly_tls_proxy_tls_client_certificates_total', { result: 'revoked' }),
    ).toBe(1);
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });

  test('a good one, by an intermediate too, reaches Gitaly and is named in the log', async () => {
    const { ca, backend, proxy, port } = await startSetup((authority) => ({
      tls: { client_auth: 'require', client_ca_path: authority.caPath },
    }));
    const intermediate = await ca.intermediate('intermediate');
    const client = await tlsClient(port, {
      ca: ca.caPem,
      ...present(await intermediate.client({ dns: ['rails-1.test'] })),
    });
    await useAndLeave(client, { backend });
    expect(await proxy.log.waitForClose('finished')).toMatchObject({ 'peer.identity': 'rails-1.test' });
    await proxy.endsWithNothingLeaked();
  });
});

describe('client_auth: optional', () => {
  test('absent is let in and counted', async () => {
    const { ca, backend, proxy, port } = await startSetup((authority) => ({
      tls: { client_auth: 'optional', client_ca_path: authority.caPath },
    }));
    await useAndLeave(await tlsClient(port, { ca: ca.caPem }), { backend });
    expect(
      (await proxy.scrape()).value('gitaly_tls_proxy_tls_client_certificates_total', { result: 'absent' }),
    ).toBe(1);
    await proxy.endsWithNothingLeaked();
  });

  test('present but bad is refused', async () => {
    const { ca, backend, proxy, port } = await startSetup((authority) => ({
      tls: { client_auth: 'optional', client_ca_path: authority.caPath },
    }));
    await tryClient(port, { ca: ca.caPem, ...present(await ca.client({ usages: ['serverAuth'] })) });
    await proxy.log.waitForClose('client_certificate_refused');
    expect(backend.connections).toHaveLength(0);
    await proxy.endsWithNothingLeaked();
  });
});

describe('a client that resumes an old session', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('is refused once its CA is removed (%s)', async (version) => {
    const { ca, backend, proxy, port, directory } = await startSetup((authority) => ({
      tls: { client_auth: 'require', client_ca_path: authority.caPath },
    }));
    const options: ConnectionOptions = {
      ca: ca.caPem,
      minVersion: version,
      maxVersion: version,
      ...present(await ca.client()),
    };
    const session = await earnSession(port, options, { backend });

    // It is resumed while nothing has changed: so what follows is the change's doing.
    const resumed = await tlsClient(port, { ...options, session });
    expect(resumed.isSessionReused()).toBe(true);
    await useAndLeave(resumed, { backend });

    const other = await Authority.create(await temporaryDirectory(), 'other');
    await writeFile(`${directory}/new-ca.pem`, other.caPem);
    await rename(`${directory}/new-ca.pem`, ca.caPath);
    await proxy.log.waitForMessage('reloaded');

    const before = backend.connections.length;
    await tryClient(port, { ...options, session });
    await proxy.log.waitForClose('client_certificate_refused');
    expect(backend.connections).toHaveLength(before);
    await proxy.endsWithNothingLeaked();
  });

  test('is refused once its certificate is revoked', async () => {
    const { ca, backend, proxy, port, configuration } = await startSetup(async (authority) => ({
      tls: {
        client_auth: 'require',
        client_ca_path: authority.caPath,
        client_crl_path: await authority.revocationList([]),
      },
    }));
    const issued = await ca.client();
    const options: ConnectionOptions = { ca: ca.caPem, ...present(issued) };
    const session = await earnSession(port, options, { backend });
    const tls = {
      ...configuration.tls,
      client_crl_path: await ca.revocationList([issued.serialNumber]),
    };
    await proxy.configure({ ...configuration, tls });
    proxy.signal('SIGHUP');
    await proxy.log.waitForMessage('reloaded');
    const before = backend.connections.length;
    await tryClient(port, { ...options, session });
    await proxy.log.waitForClose('client_certificate_refused');
    expect(backend.connections).toHaveLength(before);
    await proxy.endsWithNothingLeaked();
  });
});

/** Sends a preface that reaches the backend and is answered, then both sides finish. Returns the session. */
async function useAndLeave(client: TLSSocket, { backend }: Pick<Setup, 'backend'>): Promise<Buffer> {
  const arrived = backend.accept();
  client.write(HTTP2_PREFACE);
  const upstream = await arrived;
  await upstream.receive(HTTP2_PREFACE.length);
  upstream.socket.write('an answer');
  await once(client, 'data');
  const session = client.getSession();
  client.end();
  await upstream.ended;
  upstream.socket.end();
  await once(client.resume(), 'close');
  if (!session) throw new Error('the server handed out no session');
  return session;
}

/** A full connection, for the session that the server hands out with it. */
async function earnSession(
  port: number,
  options: ConnectionOptions,
  setup: Pick<Setup, 'backend'>,
): Promise<Buffer> {
  return useAndLeave(await tlsClient(port, options), setup);
}
