import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { RELOAD_POLL_MS } from '../../src/limits.js';
import { Authority, type Issued } from '../support/authority.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, readToEnd, tcpClient, tlsClient } from '../support/clients.js';
import { CredentialFiles } from '../support/credential-files.js';
import { FAST_CLOCK, TEST_CLOCK } from '../support/fast-clock.js';
import { GrpcClient } from '../support/grpc-client.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER, type Setup, type SetupOptions } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

const RELOADS = 'gitaly_tls_proxy_tls_reloads_total';
const SUCCESSFUL = 'gitaly_tls_proxy_tls_last_reload_successful';
const FAILURES = 'gitaly_tls_proxy_tls_handshake_failures_total';
const OUT_OF_DATE = 'gitaly_tls_proxy_tls_out_of_date';
const NOT_AFTER = 'gitaly_tls_proxy_tls_certificate_not_after_timestamp_seconds';

/** A listener whose certificate and key lie under paths that can be replaced. */
async function startWithFiles(
  clock: SetupOptions = FAST_CLOCK,
): Promise<Setup & { files: CredentialFiles; first: Issued }> {
  let files: CredentialFiles | undefined;
  let first: Issued | undefined;
  const setup = await startSetup(async (ca) => {
    first = await ca.server();
    files = await CredentialFiles.create(await temporaryDirectory(), first);
    return { ...clock, tls: { certificate_path: files.certificatePath, key_path: files.keyPath } };
  });
  if (!files || !first) throw new Error('the setup did not make its files');
  return { ...setup, files, first };
}

/** The serial number of the certificate that a new client is shown. */
async function servedSerial(port: number, ca: Authority): Promise<string> {
  const client = await tlsClient(port, { ca: ca.caPem });
  const { serialNumber } = client.getPeerCertificate();
  // An orderly end: a reset could overtake the last message of the handshake, which would then have failed.
  client.end();
  await readToEnd(client);
  return serialNumber.toLowerCase();
}

async function reloaded(proxy: ProxyProcess, times: number): Promise<void> {
  await proxy.scrapeUntil((scrape) => scrape.value(RELOADS, { result: 'success' }) >= times);
}

describe('certificate and key are reloaded', () => {
  test('when the files are replaced by rename: new connections get the new pair, open ones are not touched', async () => {
    const { ca, proxy, port, backend, files, first } = await startWithFiles();
    const client = await tlsClient(port, { ca: ca.caPem });
    const upstream = await connected(client, backend);
    expect(await servedSerial(port, ca)).toBe(first.serialNumber);

    const notAfter = new Date(Date.now() + 5 * 86_400_000);
    const second = await ca.server({ notAfter });
    await files.renew(second);
    await reloaded(proxy, 1);
    expect(await servedSerial(port, ca)).toBe(second.serialNumber);
    expect((await proxy.scrape()).value(NOT_AFTER, { role: 'server' })).toBe(
      Math.floor(notAfter.getTime() / 1000),
    );

    const before = upstream.received.length;
    client.write('up');
    await upstream.receive(before + 2);
    const answer = new Promise<Buffer>((resolve) => client.once('data', resolve));
    upstream.socket.write('down');
    expect((await answer).toString()).toBe('down');
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test("when Kubernetes swaps the link that a secret's files are reached by", async () => {
    const volume = await temporaryDirectory();
    let first: Issued | undefined;
    const { ca, proxy, port } = await startSetup(async (authority) => {
      first = await authority.server();
      await mkdir(join(volume, '..2026_01'));
      await CredentialFiles.create(join(volume, '..2026_01'), first);
      await symlink('..2026_01', join(volume, '..data'));
      await symlink('..data/tls.crt', join(volume, 'tls.crt'));
      await symlink('..data/tls.key', join(volume, 'tls.key'));
      return {
        ...FAST_CLOCK,
        tls: { certificate_path: join(volume, 'tls.crt'), key_path: join(volume, 'tls.key') },
      };
    });
    expect(await servedSerial(port, ca)).toBe(first?.serialNumber);

    const second = await ca.server();
    await mkdir(join(volume, '..2026_02'));
    await CredentialFiles.create(join(volume, '..2026_02'), second);
    await symlink('..2026_02', join(volume, '..data_tmp'));
    await rename(join(volume, '..data_tmp'), join(volume, '..data'));
    await rm(join(volume, '..2026_01'), { recursive: true });
    await reloaded(proxy, 1);
    expect(await servedSerial(port, ca)).toBe(second.serialNumber);
    await proxy.endsWithNothingLeaked();
  });

  test('at once on SIGHUP, which is answered also when nothing has changed', async () => {
    const { ca, proxy, port, files, first } = await startWithFiles();
    proxy.signal('SIGHUP');
    await proxy.log.waitForEvent('reloaded');
    expect(await servedSerial(port, ca)).toBe(first.serialNumber);
    const second = await ca.server();
    await files.renew(second);
    proxy.signal('SIGHUP');
    await reloaded(proxy, 2);
    expect(await servedSerial(port, ca)).toBe(second.serialNumber);
    await proxy.endsWithNothingLeaked();
  });
});

test('a CA that is added to client_ca_path lets its clients in, beside those of the CA that was there', async () => {
  const [known, added] = [
    await Authority.create(await temporaryDirectory(), 'known'),
    await Authority.create(await temporaryDirectory(), 'added'),
  ];
  const trusted = join(await temporaryDirectory(), 'trusted.pem');
  await writeFile(trusted, known.caPem);
  const { ca, proxy, port, backend } = await startSetup({
    ...FAST_CLOCK,
    tls: { client_auth: 'require', client_ca_path: trusted },
  });
  const presenting = async (authority: Authority) => {
    const { certificatePem, keyPem } = await authority.client();
    return { ca: ca.caPem, cert: certificatePem, key: keyPem };
  };
  const newcomer = await presenting(added);
  // In TLS 1.3 a client learns of a refusal after its own handshake.
  const early = await tlsClient(port, newcomer).catch(() => undefined);
  early?.resume();
  await proxy.log.waitForClose('client_certificate_refused');
  expect(backend.connections).toHaveLength(0);

  await writeFile(trusted, `${known.caPem}\n${added.caPem}`);
  await reloaded(proxy, 1);
  for (const options of [newcomer, await presenting(known)]) {
    const client = await tlsClient(port, options);
    const upstream = await connected(client, backend);
    client.destroy();
    upstream.socket.destroy();
  }
  await proxy.endsWithNothingLeaked();
});

test('what forward: tls:// presents, and whom it trusts, are reloaded too', async () => {
  const ca = await Authority.create(await temporaryDirectory());
  const stranger = await Authority.create(await temporaryDirectory(), 'stranger');
  const [server, first, second] = [await ca.server(), await ca.client(), await ca.client()];
  const backend = await RawBackend.startTls({
    cert: server.certificatePem,
    key: server.keyPem,
    requestCert: true,
    // What is presented is looked at here, not judged.
    rejectUnauthorized: false,
  });
  const files = await CredentialFiles.create(await temporaryDirectory(), first);
  const listen = 'tcp://127.0.0.1:0';
  const proxy = await ProxyProcess.start({
    ...FAST_CLOCK,
    configuration: {
      listeners: [
        {
          listen,
          forward: backend.tlsUrl(),
          upstream_tls: {
            ca_path: ca.caPath,
            certificate_path: files.certificatePath,
            key_path: files.keyPath,
          },
        },
      ],
    },
  });
  const port = await proxy.port(listen);
  const presentedSerial = async (): Promise<string | undefined> => {
    const client = await tcpClient(port);
    const { socket } = await connected(client, backend);
    if (!(socket instanceof TLSSocket)) throw new Error('the backend was reached without TLS');
    const serialNumber = socket.getPeerX509Certificate()?.serialNumber.toLowerCase();
    client.destroy();
    socket.destroy();
    return serialNumber;
  };
  expect(await presentedSerial()).toBe(first.serialNumber);
  await files.renew(second);
  await reloaded(proxy, 1);
  expect(await presentedSerial()).toBe(second.serialNumber);

  await writeFile(ca.caPath, stranger.caPem);
  await reloaded(proxy, 2);
  const refused = await tcpClient(port);
  refused.write(BACKCHANNEL_PREFACE);
  await readToEnd(refused);
  refused.destroy();
  expect((await proxy.log.waitForClose('upstream_unreachable'))['close.detail']).toMatch(/authority|issue/);
  await proxy.endsWithNothingLeaked();
});

describe('a reload that fails changes nothing, is logged and counted with its reason, and recovers by itself:', () => {
  test.each<[string, RegExp, (files: CredentialFiles, other: Issued) => Promise<void>]>([
    [
      'a certificate and a key that do not match',
      /tls\.key: does not match the certificate in/,
      (files, other) => files.replace(files.certificatePath, other.certificatePem),
    ],
    [
      'a certificate cut short',
      /tls\.crt/,
      (files, other) => files.replace(files.certificatePath, other.certificatePem.slice(0, 300)),
    ],
    ['an empty certificate', /tls\.crt/, (files) => files.replace(files.certificatePath, '')],
    ['a key that is missing', /tls\.key.*(ENOENT|no such file)/, (files) => rm(files.keyPath)],
    [
      'a key that cannot be read',
      /tls\.key/,
      async (files) => {
        // Root may read every file: what it cannot read as one is a directory.
        await rm(files.keyPath);
        await mkdir(files.keyPath);
      },
    ],
  ])('%s', async (_name, reason, spoil) => {
    const { ca, proxy, port, files, first } = await startWithFiles();
    await spoil(files, await ca.server());
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['level']).toBe('error');
    expect(line['error']).toMatch(reason);
    const scrape = await proxy.scrape();
    expect(scrape.value(SUCCESSFUL)).toBe(0);
    expect(scrape.value(RELOADS, { result: 'failure' })).toBe(1);
    expect(await servedSerial(port, ca)).toBe(first.serialNumber);

    await rm(files.keyPath, { recursive: true, force: true });
    const third = await ca.server();
    await files.renew(third);
    await proxy.scrapeUntil((sample) => sample.value(SUCCESSFUL) === 1);
    expect(await servedSerial(port, ca)).toBe(third.serialNumber);
    expect((await proxy.scrape()).value(FAILURES)).toBe(0);
    await proxy.endsWithNothingLeaked();
  });

  test('a client CA file that was emptied: clients that were refused before are still refused', async () => {
    const clients = await Authority.create(await temporaryDirectory(), 'clients');
    const known = await clients.client();
    const { ca, proxy, port, backend } = await startSetup({
      ...FAST_CLOCK,
      tls: { client_auth: 'require', client_ca_path: clients.caPath },
    });
    await writeFile(clients.caPath, '');
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toContain(clients.caPath);

    // In TLS 1.3 a client learns of a refusal after its own handshake.
    const stranger = await tlsClient(port, { ca: ca.caPem, maxVersion: 'TLSv1.2' }).catch(() => undefined);
    stranger?.resume();
    await proxy.log.waitForClose('client_certificate_refused');
    const client = await tlsClient(port, { ca: ca.caPem, cert: known.certificatePem, key: known.keyPem });
    const upstream = await connected(client, backend);
    expect(backend.connections).toHaveLength(1);
    client.destroy();
    upstream.socket.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

describe('a wrong date alone prevents neither a start nor a renewal:', () => {
  const DAY_MS = 86_400_000;
  const past = { notBefore: new Date(Date.now() - 2 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) };
  const future = { notBefore: new Date(Date.now() + DAY_MS) };

  test.each([
    ['expired', past, /expired on \d{4}-/],
    ['not yet valid', future, /is not valid before \d{4}-/],
  ])('with a certificate that is %s', async (_name, dates, words) => {
    let files: CredentialFiles | undefined;
    let served: Issued | undefined;
    const { ca, proxy, port } = await startSetup(async (authority) => {
      served = await authority.server(dates);
      files = await CredentialFiles.create(await temporaryDirectory(), served);
      return { ...FAST_CLOCK, tls: { certificate_path: files.certificatePath, key_path: files.keyPath } };
    });
    const line = await proxy.log.waitFor(({ error }) => words.test(String(error)));
    expect(line).toMatchObject({ level: 'warning', role: 'server', fix: expect.any(String) as string });
    expect((await proxy.scrape()).value(OUT_OF_DATE, { role: 'server' })).toBe(1);
    // A client whose clock says otherwise may accept it.
    const client = await tlsClient(port, { rejectUnauthorized: false });
    expect(client.getPeerCertificate().serialNumber.toLowerCase()).toBe(served?.serialNumber);
    client.destroy();
    const renewed = await ca.server();
    await files?.renew(renewed);
    await reloaded(proxy, 1);
    expect(await servedSerial(port, ca)).toBe(renewed.serialNumber);
    expect((await proxy.scrape()).value(OUT_OF_DATE, { role: 'server' })).toBe(0);
    await proxy.endsWithNothingLeaked();
  });

  test('a certificate that is valid is not replaced by one that is not, and others are renewed beside it', async () => {
    const listeners = ['tls://127.0.0.1:0', 'tls://localhost:0'];
    let files: CredentialFiles[] = [];
    let first: Issued[] = [];
    const { ca, proxy } = await startSetup(async (authority) => {
      first = [await authority.server(), await authority.server()];
      files = await Promise.all(
        first.map(async (pair) => CredentialFiles.create(await temporaryDirectory(), pair)),
      );
      const more = {
        listeners: files.map(({ certificatePath, keyPath }, index) => ({
          listen: listeners[index],
          forward: 'tcp://127.0.0.1:1',
          tls: { certificate_path: certificatePath, key_path: keyPath },
        })),
      };
      return { ...FAST_CLOCK, more };
    });
    const ports = await Promise.all(listeners.map((listener) => proxy.port(listener)));
    const serials = (): Promise<string[]> => Promise.all(ports.map((port) => servedSerial(port, ca)));
    const [kept, renewed] = files;
    await kept?.renew(await ca.server(past));
    const second = await ca.server();
    await renewed?.renew(second);
    await proxy.log.waitFor(
      ({ event, error }) =>
        event === 'configuration_warning' && /the previous one is still used/.test(String(error)),
    );
    await expect.poll(serials, { timeout: 10_000 }).toEqual([first[0]?.serialNumber, second.serialNumber]);
    expect((await proxy.scrape()).value(SUCCESSFUL)).toBe(0);

    const third = await ca.server();
    await kept?.renew(third);
    await proxy.scrapeUntil((scrape) => scrape.value(SUCCESSFUL) === 1);
    expect(await serials()).toEqual([third.serialNumber, second.serialNumber]);
    await proxy.endsWithNothingLeaked();
  });

  test('a new certificate that is not valid yet is used once it is', async () => {
    const { ca, proxy, port, files, first } = await startWithFiles(TEST_CLOCK);
    const next = await ca.server({ notBefore: new Date(Date.now() + DAY_MS / 24) });
    await files.renew(next);
    await proxy.advanceClock(RELOAD_POLL_MS);
    await proxy.log.waitFor(
      ({ event, error }) =>
        event === 'configuration_warning' && /the previous one is still used/.test(String(error)),
    );
    expect(await servedSerial(port, ca)).toBe(first.serialNumber);
    await proxy.advanceClock(DAY_MS / 24);
    await proxy.scrapeUntil((scrape) => scrape.value(SUCCESSFUL) === 1);
    // To this client it is not valid yet.
    const client = await tlsClient(port, { rejectUnauthorized: false });
    expect(client.getPeerCertificate().serialNumber.toLowerCase()).toBe(next.serialNumber);
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });
});

test('1000 renewals by rename under load fail no handshake and no call', async () => {
  const forward = await startGrpcBackend();
  const directory = await temporaryDirectory();
  let pairs: Issued[] = [];
  let files: CredentialFiles | undefined;
  const { ca, proxy, port } = await startSetup(async (authority) => {
    pairs = [await authority.server(), await authority.server()];
    const [first] = pairs;
    if (first) files = await CredentialFiles.create(directory, first);
    return {
      ...FAST_CLOCK,
      listener: { forward },
      tls: { certificate_path: files?.certificatePath, key_path: files?.keyPath },
    };
  });
  const address = await proxy.address(TLS_LISTENER);
  const kept = new GrpcClient(address, { ca: ca.caPem });
  const call = async (): Promise<string> => {
    const fresh = new GrpcClient(address, { ca: ca.caPem });
    try {
      expect(await Promise.all([fresh.health(), kept.health()])).toEqual([HEALTH_SERVING, HEALTH_SERVING]);
      return 'served';
    } catch (error) {
      return String(error);
    } finally {
      fresh.close();
    }
  };
  const successes = async (): Promise<number> => (await proxy.scrape()).value(RELOADS, { result: 'success' });
  const calls: Promise<string>[] = [];
  let met = 0;
  for (let renewal = 1; renewal <= 1000; renewal++) {
    const pair = pairs[renewal % 2];
    if (pair) await files?.renew(pair);
    if (renewal % 5 === 0) calls.push(call());
    if (renewal % 250 !== 0) continue;
    // The proxy polls the files: calls are made until one more reload has happened during them.
    const before = met;
    do {
      const made = call();
      calls.push(made);
      await made;
      met = await successes();
    } while (met === before);
  }
  expect(new Set(await Promise.all(calls))).toEqual(new Set(['served']));
  const last = await ca.server();
  await files?.renew(last);
  await expect.poll(() => servedSerial(port, ca), { timeout: 10_000 }).toBe(last.serialNumber);
  const scrape = await proxy.scrape();
  expect(scrape.value(FAILURES)).toBe(0);
  expect(scrape.value(RELOADS, { result: 'failure' })).toBe(0);
  expect(scrape.value(SUCCESSFUL)).toBe(1);
  kept.close();
  await proxy.endsWithNothingLeaked();
});
