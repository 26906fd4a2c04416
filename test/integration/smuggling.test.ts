import { once } from 'node:events';
import type { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { RawBackend, type BackendConnection } from '../support/backends.js';
import { HTTP2_PREFACE, readToEnd, tcpClient } from '../support/clients.js';
import { END_HEADERS, END_STREAM, frame, HEADERS } from '../support/http2-frames.js';
import { ProxyProcess } from '../support/proxy-process.js';

const LISTEN = 'tcp://127.0.0.1:0';
const STARTED = 'grpc_server_started_total';
const KNOWN = { grpc_service: 'gitaly.RepositoryService', grpc_method: 'RepositoryExists' };
const OTHER = { grpc_service: 'other', grpc_method: 'other' };
const PATH = '/gitaly.RepositoryService/RepositoryExists';
const FORGED = '{"level":"error","msg":"forged"}';

/** The name and value of a field, literally, into the dynamic table (RFC 7541 section 6.2.1). */
function field(name: string, value: string): Buffer {
  const text = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const [nameBytes, valueBytes] = [Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1')];
  return Buffer.concat([Buffer.from([0x40]), text(nameBytes), text(valueBytes)]);
}

/** A whole message: a header block that ends its stream. */
function headers(streamId: number, block: Buffer): Buffer {
  return frame(HEADERS, END_HEADERS | END_STREAM, streamId, block);
}

/** `:status: 200` and `grpc-status: 0`, at once the end of the stream. */
const OK = Buffer.from('\x88\x00\x0bgrpc-status\x010', 'latin1');

/** Header blocks that HTTP/2 forbids or that try to pass for another call, and where the call is counted. */
const BLOCKS: readonly (readonly [string, Readonly<Record<string, string>>, readonly Buffer[]])[] = [
  ['CR and LF in a value', KNOWN, [field(':path', PATH), field('x-smuggled', 'a\r\nauthorization: b')]],
  ['NUL in a value', KNOWN, [field(':path', PATH), field('x-smuggled', 'a\0b')]],
  ['an uppercase name', KNOWN, [field(':path', PATH), field('X-Smuggled', 'a')]],
  ['a name with CR and LF', KNOWN, [field(':path', PATH), field('x\r\ny', 'a')]],
  ['connection', KNOWN, [field(':path', PATH), field('connection', 'x-smuggled')]],
  ['transfer-encoding', KNOWN, [field(':path', PATH), field('transfer-encoding', 'chunked')]],
  ['a late pseudo-header', KNOWN, [field('x-smuggled', 'a'), field(':path', PATH)]],
  [
    'a line of log in the client’s name',
    KNOWN,
    [field(':path', PATH), field('client_name', `a\n${FORGED}\n`)],
  ],
  [
    'a line of log in the correlation id',
    KNOWN,
    [field(':path', PATH), field('x-gitlab-correlation-id', `a\r\n${FORGED}`)],
  ],
  ['no leading slash', OTHER, [field(':path', PATH.slice(1))]],
  ['two leading slashes', OTHER, [field(':path', `/${PATH}`)]],
  ['an encoded slash', OTHER, [field(':path', PATH.replace(/\/(?=R)/, '%2f'))]],
  ['a slash at the end', OTHER, [field(':path', `${PATH}/`)]],
  ['dots', OTHER, [field(':path', `/a/..${PATH}`)]],
  ['a query', OTHER, [field(':path', `${PATH}?a=b`)]],
  ['an absolute URL', OTHER, [field(':path', `http://localhost${PATH}`)]],
  ['NUL in the path', OTHER, [field(':path', `${PATH}\0`)]],
  ['a line of log in the path', OTHER, [field(':path', `${PATH}\n${FORGED}\n`)]],
  ['no path', OTHER, [field('x-smuggled', 'a')]],
];

/** Answers one call. */
async function answer(upstream: BackendConnection, streamId: number, sent: Buffer): Promise<void> {
  await upstream.receive(sent.length);
  upstream.socket.write(headers(streamId, OK));
}

async function write(client: Socket, bytes: Buffer, answered: () => Promise<void>): Promise<void> {
  const data = once(client, 'data');
  client.write(bytes);
  await answered();
  await data;
}

// The proxy has no rule on methods and changes no byte: Gitaly, which parses strictly, refuses these. What they must not do
// is to mislead the metrics, the log, or what is read of the calls after them.
describe.each(['json', 'text'])('with a log in %s, header blocks that ought not to be', (format) => {
  test('pass unchanged, count where they belong, make no series and no line of log, and the next call is followed', async () => {
    const backend = await RawBackend.start();
    const configuration = {
      logging: { rpc: 'all' },
      listeners: [{ listen: LISTEN, forward: backend.url }],
    };
    const proxy = await ProxyProcess.start({ configuration });
    // The addresses are read from JSON.
    await proxy.adminUrl();
    await proxy.configure({ ...configuration, logging: { rpc: 'all', format } });
    proxy.signal('SIGHUP');
    await proxy.scrapeUntil(
      (scrape) => scrape.value('gitaly_tls_proxy_tls_reloads_total', { result: 'success' }) === 1,
    );
    const client = await tcpClient(await proxy.port(LISTEN));
    const ending = readToEnd(client);
    const sent: Buffer[] = [HTTP2_PREFACE];
    client.write(HTTP2_PREFACE);
    const upstream = await backend.accept();
    upstream.socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    let streamId = 1;
    const call = async (block: Buffer): Promise<void> => {
      const bytes = headers(streamId, block);
      sent.push(bytes);
      const soFar = Buffer.concat(sent);
      const id = streamId;
      await write(client, bytes, () => answer(upstream, id, soFar));
      streamId += 2;
    };
    const counted = async (labels: Readonly<Record<string, string>>): Promise<number> =>
      (await proxy.scrape()).value(STARTED, labels);
    const series = async (): Promise<number> =>
      (await proxy.scrape()).samples.filter(({ name }) => name.startsWith('grpc_')).length;

    // Both methods were called once, so that their series are there.
    await call(field(':path', PATH));
    await call(field(':path', '/invented'));
    const before = await series();
    for (const [name, labels, fields] of BLOCKS) {
      const [known, other] = [await counted(KNOWN), await counted(OTHER)];
      await call(field(':path', PATH));
      expect(await counted(KNOWN), name).toBe(known + 1);
      await call(Buffer.concat(fields));
      expect(await counted(labels), name).toBe((labels === KNOWN ? known + 1 : other) + 1);
      // A reference to what the polite call has put into the table, below what this block has.
      await call(Buffer.from([0x80 + 62 + fields.length]));
      expect(await counted(KNOWN), name).toBe(known + (labels === KNOWN ? 3 : 2));
    }
    expect(await series()).toBe(before);
    expect(upstream.received).toEqual(Buffer.concat(sent));
    expect((await proxy.scrape()).value('gitaly_tls_proxy_inspector_lost_total')).toBe(0);
    upstream.socket.end();
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
    const calls = 2 + 3 * BLOCKS.length;
    const lines = proxy.log.text
      .split('\n')
      .filter((line) => /: call_finished: |"event":"call_finished"/u.test(line));
    expect(lines).toHaveLength(calls);
    expect(proxy.log.text.split('\n').filter((line) => / ERROR: |"level":"error"/u.test(line))).toEqual([]);
    expect(proxy.log.text).not.toContain('\0');
    expect(proxy.log.text).not.toContain('\r');
  });
});
