import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';

import { describe, expect, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { refusingBackend } from '../support/backends.js';
import { CredentialFiles } from '../support/credential-files.js';
import { ONE_WORKER, PLAIN, startGate, type Gate } from '../support/gate.js';
import { HttpBackend } from '../support/http-backend.js';
import type { HttpAnswer } from '../support/http-clients.js';
import { shell } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const CONNECT_FAILURES = 'gitaly_tls_proxy_upstream_connect_failures_total';
const FAILURES = 'gitaly_tls_proxy_http_upstream_failures_total';
const DOWN = '{"message":"GitLab cannot be reached at the moment: please try again"}';

/** A GitLab that wants a client certificate, and a proxy that presents one from files that can be renewed. */
async function startEgress(listen = PLAIN): Promise<Gate & { files: CredentialFiles; caFile: string }> {
  let files: CredentialFiles | undefined;
  let caFile = '';
  const gate = await startGate(async (ca) => {
    const directory = await temporaryDirectory();
    files = await CredentialFiles.create(directory, await ca.client());
    caFile = join(directory, 'upstream-ca.pem');
    await writeFile(caFile, ca.caPem);
    const { certificatePem: cert, keyPem: key } = await ca.server();
    const backend = await HttpBackend.startTls({ cert, key, ca: ca.caPem, requestCert: true });
    const upstream = { ca_path: caFile, certificate_path: files.certificatePath, key_path: files.keyPath };
    return { backend, listener: { listen, upstream_tls: upstream }, more: ONE_WORKER };
  });
  if (!files) throw new Error('the setup did not make its files');
  return { ...gate, files, caFile };
}

async function reloaded({ proxy }: Gate, times: number): Promise<void> {
  await proxy.scrapeUntil(
    (scrape) => scrape.value('gitaly_tls_proxy_tls_reloads_total', { result: 'success' }) >= times,
  );
}

describe('egress', () => {
  test('presents the certificate, over one connection that is kept, in HTTP/1.1', async () => {
    const gate = await startEgress();
    for (let call = 0; call < 5; call++) {
      const answer = await gate.ask('/api/v4/internal/allowed', { method: 'POST' }, '{}');
      expect(answer).toMatchObject({ status: 200, body: '{"status":true}' });
    }
    const { connections } = gate.backend;
    expect(connections).toHaveLength(1);
    expect(connections[0] as TLSSocket).toMatchObject({ authorized: true, alpnProtocol: 'http/1.1' });
    // Every path, unless `paths` says otherwise.
    expect(await gate.ask('/any/path')).toMatchObject({ status: 200 });
    await gate.endsWithNothingLeaked();
  });

  test('from a unix socket, as Gitaly’s http+unix:// has it', async () => {
    const path = join(await temporaryDirectory(), 'egress.socket');
    const gate = await startGate(async (ca) => {
      const { certificatePem: cert, keyPem: key } = await ca.server();
      const backend = await HttpBackend.startTls({ cert, key });
      return { backend, listener: { listen: `unix:${path}`, upstream_tls: { ca_path: ca.caPath } } };
    });
    const { output } = await shell(
      `curl -sS --max-time 20 --unix-socket ${path} -d '{}' http://unix/api/v4/internal/check`,
    );
    expect(output).toBe('{"status":true}');
    expect(gate.backend.last.headers).toMatchObject({ forwarded: 'for=unknown;host="unix";proto=http' });
    expect(gate.backend.last.headers).not.toHaveProperty('x-forwarded-for');
    // It is no connection of Gitaly's.
    expect((await gate.proxy.scrape()).value('gitaly_connections_total')).toBe(0);
    await gate.endsWithNothingLeaked();
  });

  test('follows a renewed certificate with the next request; one under way is not touched', async () => {
    const gate = await startEgress();
    expect(await gate.ask('/a')).toMatchObject({ status: 200 });
    gate.backend.handler = (_request, response) => {
      response.write('part');
      gate.backend.handler = undefined;
      void gate.proxy.log.waitForEvent('reloaded').then(() => response.end('whole'));
    };
    const during = gate.ask('/b');
    await expect.poll(() => gate.backend.handler).toBeUndefined();
    const renewed = await gate.ca.client();
    await gate.files.renew(renewed);
    await reloaded(gate, 1);
    expect(await during).toMatchObject({ status: 200, body: 'partwhole' });
    expect(await gate.ask('/c')).toMatchObject({ status: 200 });
    expect(gate.backend.connections).toHaveLength(2);
    expect(gate.backend.serialNumbers[1]).toBe(renewed.serialNumber);
    await gate.endsWithNothingLeaked();
  });

  test('follows a CA that was replaced: who was trusted is not any more, and no kept connection is used', async () => {
    const gate = await startEgress();
    expect(await gate.ask('/a')).toMatchObject({ status: 200 });
    const other = await Authority.create(await temporaryDirectory(), 'other');
    await gate.files.replace(gate.caFile, other.caPem);
    await reloaded(gate, 1);
    const answer = await gate.ask('/b');
    expect(answer).toMatchObject({ status: 502, body: DOWN });
    const line = await gate.proxy.log.waitForEvent('http_request_failed', { 'http.method': 'GET' });
    expect(line['error']).toMatch(/signed by an unknown authority/);
    const scrape = await gate.proxy.scrape();
    expect(scrape.value(CONNECT_FAILURES, { reason: 'certificate_unknown_authority' })).toBe(1);
    await gate.endsWithNothingLeaked();
  });
});

describe('an upstream that does not answer is a 502 that Gitaly can show, and names nothing of it; why is in log and metric:', () => {
  const wrongName = async (ca: Authority): Promise<HttpBackend> => {
    const { certificatePem: cert, keyPem: key } = await ca.server({ dns: ['other.internal'], ip: [] });
    return HttpBackend.startTls({ cert, key });
  };
  const strict = async (ca: Authority): Promise<HttpBackend> => {
    const { certificatePem: cert, keyPem: key } = await ca.server();
    return HttpBackend.startTls({ cert, key, ca: ca.caPem, requestCert: true, rejectUnauthorized: true });
  };
  test.each([
    ['nobody listens', 'refused', async () => (await refusingBackend()).replace('tcp:', 'http:')],
    ['no such socket', 'no_socket', () => 'unix:/nonexistent/gitlab.socket'],
    ['no such name', 'name_not_found', () => 'http://gitlab.invalid'],
    ['another name', 'certificate_name_mismatch', async (ca: Authority) => (await wrongName(ca)).url],
    ['no TLS', 'tls', async () => (await HttpBackend.start()).url.replace('http:', 'https:')],
    [
      'it wants a client certificate',
      'client_certificate_refused',
      async (ca: Authority) => (await strict(ca)).url,
    ],
  ] as const)('%s', async (_what, reason, forward) => {
    const gate = await startGate(async (ca) => {
      const url = await forward(ca);
      const upstream = url.startsWith('https:') ? { upstream_tls: { ca_path: ca.caPath } } : {};
      return { listener: { listen: PLAIN, forward: url, ...upstream } };
    });
    const answer = await gate.ask('/api/v4/internal/allowed', { method: 'POST' }, '{}');
    expect(answer).toMatchObject({
      status: 502,
      body: DOWN,
      headers: { 'content-type': 'application/json' },
    });
    const line = await gate.proxy.log.waitForEvent('http_request_failed', { 'http.method': 'POST' });
    expect(line).toMatchObject({
      level: 'error',
      'http.upstream_failure': 'unreachable',
      'http.status': 502,
    });
    expect(line['error']).not.toBe('');
    const scrape = await gate.proxy.scrape();
    expect(scrape.value(CONNECT_FAILURES, { reason })).toBe(1);
    expect(scrape.value(FAILURES, { reason: 'unreachable' })).toBe(1);
    expect(scrape.value('gitaly_tls_proxy_upstream_up')).toBe(0);
    await gate.endsWithNothingLeaked();
  });

  test('it takes the request and leaves', async () => {
    const gate = await startGate({ listener: { listen: PLAIN } });
    gate.backend.handler = (request) => request.socket.destroy();
    const answer = await gate.ask('/api/v4/internal/allowed', { method: 'POST' }, '{}');
    expect(answer).toMatchObject({ status: 502, body: DOWN });
    expect((await gate.proxy.scrape()).value(FAILURES, { reason: 'closed' })).toBe(1);
    // The next one is served as if nothing had been.
    gate.backend.handler = undefined;
    expect(await gate.ask('/a')).toMatchObject({ status: 200 });
    await gate.endsWithNothingLeaked();
  });
});

test('an answer over TLS that ends with its connection is a 502, because it may be truncated', async () => {
  const gate = await startEgress();
  const ask = (head: string): Promise<HttpAnswer> => {
    gate.backend.handler = ({ socket }) => void socket.end(`HTTP/1.1 ${head}\r\n\r\npart`);
    return gate.ask('/');
  };
  expect(await ask('200 OK')).toMatchObject({ status: 502, body: DOWN });
  const line = await gate.proxy.log.waitForEvent('http_request_failed', { 'http.method': 'GET' });
  expect(line).toMatchObject({
    'http.upstream_failure': 'malformed',
    error: expect.stringContaining('neither a length nor chunks') as unknown,
  });
  expect(await ask('200 OK\r\nContent-Length: 4')).toMatchObject({ status: 200, body: 'part' });
  await gate.endsWithNothingLeaked();
});
