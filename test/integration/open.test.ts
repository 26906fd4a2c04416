import { once } from 'node:events';

import { expect, test, vi } from 'vitest';

import { startGrpcBackend } from '../support/backends.js';
import { HTTP2_PREFACE, tcpClient, tlsClient } from '../support/clients.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { connected } from '../support/transfer.js';
import { yamux } from '../support/yamux-frames.js';

const REPEAT = '/gitaly_tls_proxy.demo.DemoService/Repeat';

async function ask(proxy: ProxyProcess, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${await proxy.adminUrl()}${path}`, { headers: { connection: 'close' } });
  return { status: response.status, body: await response.text() };
}

async function read(proxy: ProxyProcess, path: string): Promise<unknown> {
  const { status, body } = await ask(proxy, path);
  expect(status).toBe(200);
  return JSON.parse(body);
}

/** Waits until a page shows this: what is under way comes to a stand when it can go no further. */
async function eventually(proxy: ProxyProcess, path: string, content: object): Promise<void> {
  await vi.waitFor(async () => expect(await read(proxy, path)).toMatchObject(content), {
    timeout: 20_000,
    interval: 20,
  });
}

test('/-/connections shows where a call hangs: its client does not read, and Gitaly waits for a window', async () => {
  const { ca, proxy } = await startSetup({ listener: { forward: await startGrpcBackend() } });
  const client = new GrpcClient(await proxy.address(TLS_LISTENER), { ca: ca.caPem });
  // More than the windows hold: the server stands still.
  const { rest } = await client.repeatUnread(Buffer.alloc(1_000_000, 'x'));
  await eventually(proxy, '/-/connections', {
    open: 1,
    shown: 1,
    connections: [
      {
        listener: TLS_LISTENER,
        peer_address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as unknown,
        protocol: 'http2',
        server_name: 'localhost',
        tls: { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', resumed: false },
        stage: 'relaying',
        inspection: 'followed',
        age_ms: expect.any(Number) as unknown,
        bytes: { to_upstream: expect.any(Number) as unknown, to_client: expect.any(Number) as unknown },
        queued_bytes: { to_upstream: 0, to_client: 0 },
        grpc_connections: [{ direction: 'to_upstream' }],
        rpcs: [
          {
            method: REPEAT,
            direction: 'to_upstream',
            stream_id: 1,
            request: { messages: 1, bytes: 1_000_000, window_bytes: null, blocked: false },
            response: { blocked: true, stalled_ms: expect.any(Number) as unknown },
          },
        ],
        sidechannels: [],
      },
    ],
  });
  await rest();
  // Told of as long as they are open, and no longer.
  expect(await read(proxy, '/-/rpcs?state=open')).toEqual({ open: 0, shown: 0, rpcs: [] });
  client.close();
  await proxy.endsWithNothingLeaked();
});

test('/-/rpcs?state=open: every open call, the longest first, with the connection that it is on', async () => {
  const { ca, proxy } = await startSetup({ listener: { forward: await startGrpcBackend() } });
  const address = await proxy.address(TLS_LISTENER);
  const clients = Array.from({ length: 3 }, () => new GrpcClient(address, { ca: ca.caPem }));
  const rests: (() => Promise<number>)[] = [];
  for (const client of clients) rests.push((await client.repeatUnread(Buffer.alloc(1_000_000, 'x'))).rest);
  const all = await read(proxy, '/-/rpcs?state=open');
  expect(all).toMatchObject({
    open: 3,
    shown: 3,
    rpcs: [1, 2, 3].map((id) => ({
      method: REPEAT,
      connection: { id, listener: TLS_LISTENER, protocol: 'http2' },
    })),
  });
  expect(await read(proxy, '/-/rpcs?limit=1')).toMatchObject({
    open: 3,
    shown: 1,
    rpcs: [{ connection: { id: 1 } }],
  });
  expect(await read(proxy, '/-/connections?limit=2')).toMatchObject({
    open: 3,
    shown: 2,
    connections: [{ id: 1 }, { id: 2 }],
  });
  await Promise.all(rests.map((rest) => rest()));
  for (const client of clients) client.close();
  await proxy.endsWithNothingLeaked();
});

test('a sidechannel is shown with its id, its bytes, and the window that is left', async () => {
  const { ca, backend, proxy, port } = await startSetup();
  const client = await tlsClient(port, { ca: ca.caPem });
  const { socket } = await connected(client, backend);
  const content = Buffer.alloc(1000, 'p');
  const id = Buffer.from([0, 0, 0, 0, 0, 0, 0, 7]);
  client.resume();
  socket.write(
    Buffer.concat([
      yamux(1, 1, 2, 0),
      yamux(0, 0, 2, Buffer.concat([Buffer.from('sidechannel'), id])),
      yamux(0, 0, 2, content),
    ]),
  );
  await eventually(proxy, '/-/connections', {
    connections: [
      {
        protocol: 'backchannel',
        sidechannels: [
          {
            id: '7',
            stream_id: 2,
            to_upstream: { bytes: 0, window_bytes: 256 * 1024, blocked: false },
            to_client: { bytes: 1000, window_bytes: 256 * 1024 - 1000 - 19, blocked: false },
          },
        ],
      },
    ],
  });
  client.destroy();
  socket.destroy();
  await proxy.endsWithNothingLeaked();
});

test('connections that are not relayed yet, and those that are not inspected, are shown too', async () => {
  const { backend, proxy, port } = await startSetup({
    listener: { listen: 'tcp://127.0.0.1:0', inspect: false },
  });
  const silent = await tcpClient(port);
  const relayed = await tcpClient(port);
  const { socket } = await connected(relayed, backend);
  expect(await read(proxy, '/-/connections')).toMatchObject({
    connections: [
      { stage: 'opening', inspection: 'off' },
      { stage: 'relaying', inspection: 'off', protocol: 'backchannel', rpcs: [] },
    ],
  });
  silent.destroy();
  relayed.destroy();
  socket.destroy();
  await proxy.endsWithNothingLeaked();
});

test('a page holds no secret of a call', async () => {
  const { ca, backend, proxy, port } = await startSetup();
  const client = await tlsClient(port, { ca: ca.caPem });
  const arrived = backend.accept();
  const literal = (text: string): Buffer => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
  const block = Buffer.concat([
    Buffer.from([0x04]),
    literal('/gitaly.Service/Method'),
    Buffer.from([0x00]),
    literal('authorization'),
    literal('Bearer hunter2hunter2'),
  ]);
  const headers = Buffer.from([0, 0, block.length, 1, 4, 0, 0, 0, 1]);
  client.write(Buffer.concat([HTTP2_PREFACE, headers, block]));
  const { socket } = await arrived;
  // SETTINGS: upstream has spoken, and the relay begins.
  socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  await once(client, 'data');
  for (const path of ['/-/connections', '/-/rpcs']) {
    const { body } = await ask(proxy, path);
    expect(body).toContain('/gitaly.Service/Method');
    expect(body).not.toContain('hunter2');
  }
  client.destroy();
  socket.destroy();
  await proxy.endsWithNothingLeaked();
});

test.each([
  ['/-/rpcs?state=closed', 'state: expected open, got "closed"\n'],
  ['/-/rpcs?limit=none', 'limit: expected a number from 1 to 10000, got "none"\n'],
  ['/-/connections?limit=0', 'limit: expected a number from 1 to 10000, got "0"\n'],
])('%s is refused in words', async (path, words) => {
  const { proxy } = await startSetup();
  expect(await ask(proxy, path)).toEqual({ status: 400, body: words });
});
