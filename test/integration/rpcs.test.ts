import { once } from 'node:events';
import type { Socket } from 'node:net';

import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';

import { demoService, HEALTH_REQUEST, healthService } from '../../src/commands/demo/demo-service.js';
import { RawBackend, startGrpcBackend } from '../support/backends.js';
import { HTTP2_PREFACE, readToEnd, tcpClient } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';

const LISTEN = 'tcp://127.0.0.1:0';
const STARTED = 'grpc_server_started_total';
const HANDLED = 'grpc_server_handled_total';
/** A method of Gitaly's that the demo's backend does not have. */
/** A call of Gitaly's that the demo's backend does not answer. */
const CLOCK_SYNCED = '/gitaly.ServerService/ClockSynced';
const ECHO = demoService.echo.path;
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';

/** A plaintext listener in front of a gRPC server, and how to call it with metadata; the code that a call ends with. */
async function start(logging: Record<string, unknown> = {}, listener: Record<string, unknown> = {}) {
  const forward = await startGrpcBackend();
  const proxy = await ProxyProcess.start({
    configuration: { logging, listeners: [{ listen: LISTEN, forward, ...listener }] },
  });
  const client = new Client(`127.0.0.1:${await proxy.port(LISTEN)}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_retries': 0,
  });
  onTestFinished(() => client.close());
  const call = (
    path: string,
    metadata: Readonly<Record<string, string>> = {},
    message = HEALTH_REQUEST,
  ): Promise<status> =>
    new Promise((resolve) => {
      const sent = new Metadata();
      for (const [name, value] of Object.entries(metadata)) sent.set(name, value);
      const { requestSerialize, responseDeserialize } = demoService.echo;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, sent, (error) =>
        resolve(error ? error.code : status.OK),
      );
    });
  /** Ends the client and the proxy; all that it has logged is there then. */
  const stop = async (): Promise<void> => {
    client.close();
    await proxy.endsWithNothingLeaked();
  };
  const rpcLines = () => proxy.log.lines.filter((line) => 'grpc.code' in line);
  return { proxy, call, stop, rpcLines };
}

/** HEADERS with END_STREAM and a `:path` that nobody has used before. */
function request(made: number): Buffer {
  const path = Buffer.from(`/invented.Service${made}/Method`);
  const payload = Buffer.concat([Buffer.from([0x04, path.length]), path]);
  const header = Buffer.from([0, 0, payload.length, 1, 5, 0, 0, 0, 0]);
  header.writeUInt32BE(2 * made + 1, 5);
  return Buffer.concat([header, payload]);
}

/** `:status: 200` and `grpc-status: 12`, at once the end of the stream. */
const UNIMPLEMENTED = Buffer.from('\x88\x00\x0bgrpc-status\x0212', 'latin1');

/** RFC 9113 section 3.4, without the SETTINGS that follow. */
const CLIENT_PREFACE_BYTES = 24;

/** Answers each HEADERS that comes; what is returned waits until so many are. */
function answerUnimplemented(socket: Socket): (count: number) => Promise<void> {
  let rest = Buffer.alloc(0);
  let begun = false;
  let answered = 0;
  socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    if (!begun && rest.length < CLIENT_PREFACE_BYTES) return;
    let offset = begun ? 0 : CLIENT_PREFACE_BYTES;
    begun = true;
    while (offset + 9 <= rest.length && offset + 9 + rest.readUIntBE(offset, 3) <= rest.length) {
      if (rest[offset + 3] === 1) {
        const header = Buffer.from([0, 0, UNIMPLEMENTED.length, 1, 5, 0, 0, 0, 0]);
        rest.copy(header, 5, offset + 5, offset + 9);
        socket.write(Buffer.concat([header, UNIMPLEMENTED]));
        answered++;
      }
      offset += 9 + rest.readUIntBE(offset, 3);
    }
    rest = rest.subarray(offset);
  });
  return async (count) => {
    while (answered < count) await once(socket, 'data');
  };
}

describe('metrics of RPCs', () => {
  test('have the names and labels of go-grpc-prometheus, by method and code', async () => {
    const { proxy, call, stop } = await start();
    expect(await call(CLOCK_SYNCED)).toBe(status.UNIMPLEMENTED);
    for (let made = 0; made < 3; made++) expect(await call(healthService.check.path)).toBe(status.OK);
    const scrape = await proxy.scrape();
    const method = { grpc_type: 'unary', grpc_service: 'grpc.health.v1.Health', grpc_method: 'Check' };
    expect(scrape.value(STARTED, method)).toBe(3);
    expect(scrape.value(HANDLED, { ...method, grpc_code: 'OK' })).toBe(3);
    expect(scrape.value('grpc_server_msg_received_total', method)).toBe(3);
    expect(scrape.value('grpc_server_msg_sent_total', method)).toBe(3);
    expect(scrape.value('grpc_server_handling_seconds_count', method)).toBe(3);
    const known = { grpc_type: 'unary', grpc_service: 'gitaly.ServerService', grpc_method: 'ClockSynced' };
    expect(scrape.value(HANDLED, { ...known, grpc_code: 'Unimplemented' })).toBe(1);
    expect(scrape.value(HANDLED)).toBe(4);
    expect(scrape.value('gitaly_tls_proxy_rpcs_in_flight')).toBe(0);
    await stop();
  });

  test('an unknown method gets a label once upstream has answered it', async () => {
    const { proxy, call, stop } = await start();
    const [, service = '', method = ''] = ECHO.split('/');
    const own = { grpc_service: service, grpc_method: method };
    expect(await call(ECHO, {}, Buffer.alloc(1000))).toBe(status.OK);
    expect((await proxy.scrape()).value(STARTED, { grpc_method: 'other' })).toBe(1);
    expect(await call(ECHO, {}, Buffer.alloc(1000))).toBe(status.OK);
    const scrape = await proxy.scrape();
    expect(scrape.value(STARTED, own)).toBe(1);
    expect(scrape.value(HANDLED, { ...own, grpc_code: 'OK' })).toBe(1);
    const bytes = 'gitaly_tls_proxy_rpc_payload_bytes_total';
    expect(scrape.value(bytes, { side: 'request' })).toBe(2000);
    expect(scrape.value(bytes, { side: 'response' })).toBe(2000);
    await stop();
  });

  test('a client that invents 100 000 methods creates no series', async () => {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: { logging: { rpc: 'none' }, listeners: [{ listen: LISTEN, forward: backend.url }] },
    });
    const client = await tcpClient(await proxy.port(LISTEN));
    const ending = readToEnd(client);
    client.write(HTTP2_PREFACE);
    const upstream = await backend.accept();
    const answers = answerUnimplemented(upstream.socket);
    const [invented, batch] = [100_000, 1000];
    const series = async () =>
      (await proxy.scrape()).samples.filter(({ name }) => name.startsWith('grpc_')).length;
    let before: number | undefined;
    for (let made = 0; made < invented; made += batch) {
      const requests = Array.from({ length: batch }, (_, index) => request(made + index));
      client.write(Buffer.concat(requests));
      await answers(made + batch);
      before ??= await series();
    }
    expect(await series()).toBe(before);
    expect((await proxy.scrape()).value(STARTED, { grpc_service: 'other' })).toBe(invented);
    upstream.socket.end();
    await ending;
    client.destroy();
    await proxy.endsWithNothingLeaked();
  });

  test('exemplars carry the trace in OpenMetrics', async () => {
    const { proxy, call, stop } = await start();
    await call(healthService.check.path, { traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01` });
    const answer = await fetch(`${await proxy.adminUrl()}/metrics`, {
      headers: { accept: 'application/openmetrics-text', connection: 'close' },
    });
    expect(await answer.text()).toMatch(
      new RegExp(`^grpc_server_handling_seconds_bucket\\{.*# \\{trace_id="${TRACE_ID}"\\}`, 'm'),
    );
    await stop();
  });

  test('a connection that cannot be followed is counted once, and its bytes are still relayed', async () => {
    const backend = await RawBackend.start();
    const proxy = await ProxyProcess.start({
      configuration: { listeners: [{ listen: LISTEN, forward: backend.url }] },
    });
    const client = await tcpClient(await proxy.port(LISTEN));
    // DATA on no stream.
    const sent = Buffer.concat([HTTP2_PREFACE, Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 0, 120])]);
    client.write(sent);
    const upstream = await backend.accept();
    expect(await upstream.receive(sent.length)).toEqual(sent);
    upstream.socket.end('no frames either');
    client.end();
    expect((await readToEnd(client)).received.toString()).toBe('no frames either');
    const scrape = await proxy.scrape();
    expect(scrape.value('gitaly_tls_proxy_inspector_lost_total')).toBe(1);
    expect(scrape.value('gitaly_tls_proxy_inspector_lost_total', { reason: 'frame' })).toBe(1);
    await proxy.endsWithNothingLeaked();
  });

  test('inspect: false leaves it out', async () => {
    const { proxy, call, stop } = await start({}, { inspect: false });
    expect(await call(healthService.check.path)).toBe(status.OK);
    expect((await proxy.scrape()).value(STARTED)).toBe(0);
    await stop();
  });
});

describe('the log of RPCs', () => {
  const METADATA = {
    client_name: 'gitlab-sidekiq',
    'x-gitlab-correlation-id': '01HXYZ',
    traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01`,
  };

  test('has the failed calls by default, in the words and fields of Gitaly', async () => {
    const { call, stop, rpcLines } = await start();
    await call(ECHO, METADATA);
    await call(CLOCK_SYNCED, METADATA, Buffer.alloc(7));
    await stop();
    expect(rpcLines()).toHaveLength(1);
    expect(rpcLines()[0]).toMatchObject({
      level: 'error',
      msg: 'finished unary call with code Unimplemented',
      protocol: 'http2',
      direction: 'to_upstream',
      'grpc.service': 'gitaly.ServerService',
      'grpc.method': 'ClockSynced',
      'grpc.code': 'Unimplemented',
      'grpc.request.payload_bytes': 7,
      'grpc.response.payload_bytes': 0,
      'grpc.meta.client_name': 'gitlab-sidekiq',
      correlation_id: '01HXYZ',
      trace_id: TRACE_ID,
      'peer.address': expect.stringMatching(/^127\.0\.0\.1:\d+$/) as unknown,
      'grpc.time_ms': expect.any(Number) as unknown,
    });
  });

  test.each([
    ['all', 3],
    ['slow:1h', 1],
    ['none', 0],
  ])('logging.rpc: %s', async (rpc, lines) => {
    const { call, stop, rpcLines } = await start({ rpc });
    await call(ECHO);
    await call(ECHO);
    await call(CLOCK_SYNCED);
    await call(healthService.check.path);
    await stop();
    expect(rpcLines()).toHaveLength(lines);
  });

  test('logging.rpc_sampling logs that share of the successful calls', async () => {
    const { call, stop, rpcLines } = await start({ rpc: 'all', rpc_sampling: 0.25 });
    for (let made = 0; made < 8; made++) await call(ECHO);
    await stop();
    expect(rpcLines()).toHaveLength(2);
  });

  test('never holds a secret, nor do the metrics', async () => {
    const { proxy, call, stop } = await start({ rpc: 'all', level: 'debug' });
    const secret = 'hunter2hunter2';
    for (const path of [ECHO, CLOCK_SYNCED]) {
      for (const name of [
        'authorization',
        'gitaly-servers',
        'gitlab-shell-api-request',
        'private-token',
        'cookie',
      ])
        await call(path, { [name]: `Bearer ${secret}` });
    }
    const pages = await Promise.all(
      ['application/openmetrics-text', 'text/plain'].map(async (accept) =>
        (
          await fetch(`${await proxy.adminUrl()}/metrics`, { headers: { accept, connection: 'close' } })
        ).text(),
      ),
    );
    await stop();
    expect(pages.join()).toContain(STARTED);
    expect([...pages, JSON.stringify(proxy.log.lines)].join()).not.toContain(secret);
  });
});
