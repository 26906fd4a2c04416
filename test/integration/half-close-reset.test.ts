import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { connect as connectTls, type ConnectionOptions, type TlsOptions } from 'node:tls';

import { describe, expect, onTestFinished, test } from 'vitest';

import { RawBackend } from '../support/backends.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE } from '../support/clients.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { connected } from '../support/transfer.js';

/** Each is a race of bytes and reset, which reach the proxy together in most rounds. */
const ROUNDS = 10;

/** One read, several TLS records, and more than the proxy queues. */
const SIZES = [100, 70_000, 400_000];

/** Of each kind that the proxy offers. */
const CIPHERS = [
  ['TLSv1.2', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
  ['TLSv1.2', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
  ['TLSv1.3', 'TLS_AES_256_GCM_SHA384'],
  ['TLSv1.3', 'TLS_CHACHA20_POLY1305_SHA256'],
] as const;

interface Setup {
  readonly proxy: ProxyProcess;
  readonly backend: RawBackend;
  readonly open: () => Promise<End>;
}

/** A client, or the backend's place: what it writes plaintext to, and the socket below. */
interface End {
  readonly stream: Socket;
  readonly raw: Socket;
}

async function start(
  near: 'tls' | 'tcp',
  far: 'tls' | 'tcp',
  tls: Pick<ConnectionOptions, 'minVersion' | 'maxVersion' | 'ciphers'> = {},
  farTls: Pick<TlsOptions, 'minVersion' | 'maxVersion'> = {},
): Promise<Setup> {
  const ca = await Authority.create(await temporaryDirectory());
  const { certificatePath, keyPath, certificatePem, keyPem } = await ca.server();
  const backend =
    far === 'tls'
      ? await RawBackend.startTls({ cert: certificatePem, key: keyPem, ...farTls })
      : await RawBackend.start();
  const listen = `${near}://127.0.0.1:0`;
  const forward = far === 'tls' ? backend.tlsUrl() : backend.url;
  const proxy = await ProxyProcess.start({
    configuration: {
      tls: { certificate_path: certificatePath, key_path: keyPath },
      listeners: [{ listen, forward, ...(far === 'tls' && { upstream_tls: { ca_path: ca.caPath } }) }],
    },
  });
  const port = await proxy.port(listen);
  const open = async (): Promise<End> => {
    const raw = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    onTestFinished(() => void raw.destroy());
    const toProxy: ConnectionOptions & { allowHalfOpen: boolean } = {
      socket: raw,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      ca: ca.caPem,
      allowHalfOpen: true,
      ...tls,
    };
    const stream: Socket = near === 'tls' ? connectTls(toProxy) : raw;
    for (const socket of new Set([raw, stream])) socket.on('error', () => undefined);
    await once(stream, near === 'tls' ? 'secureConnect' : 'connect');
    return { stream, raw };
  };
  return { proxy, backend, open };
}

/** The socket of an accepted TLS connection, which alone can be reset; Node has no documented way to it. */
function below(socket: Socket): Socket {
  const parent: unknown = Reflect.get(socket, '_parent');
  return parent instanceof Socket ? parent : socket;
}

/** The sender is in the midst of what it has to say: the receiver has had a part of it when bytes and the reset follow. */
async function breakOff(sender: End, receiver: Socket, bytes: number): Promise<void> {
  const begun = once(receiver, 'data');
  sender.stream.write('x');
  await begun;
  receiver.resume();
  sender.stream.write(randomBytes(bytes));
  // What TLS has encrypted is handed to the kernel then.
  if (sender.raw !== sender.stream) await nextTurn();
  sender.raw.resetAndDestroy();
}

const EMPTY_SETTINGS = HTTP2_PREFACE.subarray(-9);

/** How a socket of the backend ends. Node 20 may report a reset as `end`: then a write fails. */
function fateOf(socket: Socket): Promise<'end' | 'reset'> {
  return new Promise((resolve) => {
    socket.once('error', () => resolve('reset'));
    socket.once('end', () => socket.write('', (error) => resolve(error ? 'reset' : 'end')));
  });
}

/** With an error or without. */
async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
}

const ROUTES = [
  ['tls', 'tcp'],
  ['tcp', 'tcp'],
  ['tcp', 'tls'],
] as const;

describe.each(ROUTES)('a reset after a half-close stays a reset, %s to %s', (near, far) => {
  test('client half-closes, backend resets in mid-answer', async () => {
    const { proxy, backend, open } = await start(near, far);
    for (const bytes of SIZES) {
      for (let round = 0; round < ROUNDS; round++) {
        const { stream: client } = await open();
        const { socket, ended } = await connected(client, backend);
        client.end();
        expect(await ended).toBe('end');
        await breakOff({ stream: socket, raw: below(socket) }, client, bytes);
        await closed(client);
      }
    }
    await expectResets(proxy, 'upstream');
  });

  test('backend half-closes, client resets in mid-upload', async () => {
    const { proxy, backend, open } = await start(near, far);
    for (const bytes of SIZES) {
      for (let round = 0; round < ROUNDS; round++) {
        const client = await open();
        const { socket } = await connected(client.stream, backend);
        socket.end();
        await once(client.stream.resume(), 'end');
        await breakOff(client, socket, bytes);
        await closed(socket);
      }
    }
    await expectResets(proxy, 'client');
  });
});

const VERSIONS = [
  ['tls', 'TLSv1.2'],
  ['tls', 'TLSv1.3'],
  ['tcp', 'TLSv1.3'],
] as const;

describe.each(VERSIONS)('a client that resets behind its first bytes, %s, %s', (near, version) => {
  // What the proxy writes meanwhile, session tickets or the answer of upstream, may take the error of the reset.
  test.each(['nothing', 'SETTINGS'])('is reset, and upstream too, which has sent %s', async (answer) => {
    const { proxy, backend, open } = await start(near, 'tcp', { minVersion: version, maxVersion: version });
    const fates: Promise<string>[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      void backend.accept().then(({ socket }) => {
        if (answer === 'SETTINGS') socket.write(EMPTY_SETTINGS);
        fates.push(fateOf(socket));
      });
      const { stream, raw } = await open();
      stream.write(answer === 'SETTINGS' ? HTTP2_PREFACE : BACKCHANNEL_PREFACE);
      // What TLS has encrypted is handed to the kernel then.
      if (raw !== stream) await nextTurn();
      raw.resetAndDestroy();
    }
    await expectResets(proxy, 'client', ROUNDS);
    for (const fate of await Promise.all(fates)) expect(fate).toBe('reset');
  });
});

test.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'an upstream that resets behind its first bytes has not ended in order, %s',
  async (version) => {
    const versions = { minVersion: version, maxVersion: version };
    const { proxy, backend, open } = await start('tcp', 'tls', {}, versions);
    for (let round = 0; round < ROUNDS; round++) {
      void backend.accept().then(({ socket }) => {
        socket.write('x', () => below(socket).resetAndDestroy());
      });
      const { stream } = await open();
      stream.write(BACKCHANNEL_PREFACE);
      // Node 20 may report the reset as `end`.
      stream.once('end', () => stream.destroy()).resume();
      await closed(stream);
    }
    await proxy.endsWithNothingLeaked();
    const ends = proxy.log.lines.filter((line) => 'close.reason' in line);
    expect(ends).toHaveLength(ROUNDS);
    // A reset may overtake the first byte: then upstream counts as one that cannot be reached.
    for (const { 'close.reason': reason } of ends) expect(reason).toMatch(/^(reset|upstream_unreachable)$/);
  },
);

/** What is left of a record of application data: none of these lengths is that of a close_notify. */
const RESTS = [1, 5, 6, 20, 23, 25, 30, 32, 200];

/** Behind an answer what is shorter may be the rest of a close_notify. */
const LONG_RESTS = RESTS.filter((bytes) => bytes > 24);

/** A part of a TLS record, and the reset: no plaintext comes of it. */
function breakOffInRecord({ raw }: End, bytes: number): void {
  const record = Buffer.concat([Buffer.from([0x17, 3, 3, 1, 0]), randomBytes(256)]);
  raw.write(record.subarray(0, bytes));
  raw.resetAndDestroy();
}

test('a reset within the first bytes of a TLS record stays a reset, before any answer and within one', async () => {
  const { proxy, backend, open } = await start('tcp', 'tls');
  for (const answers of [false, true]) {
    for (const bytes of answers ? LONG_RESTS : RESTS) {
      const { stream: client } = await open();
      const { socket, ended } = await connected(client, backend);
      client.end();
      expect(await ended).toBe('end');
      if (answers) {
        const begun = once(client, 'data');
        socket.write('x');
        await begun;
      }
      client.resume();
      breakOffInRecord({ stream: socket, raw: below(socket) }, bytes);
      await closed(client);
    }
  }
  await expectResets(proxy, 'upstream', RESTS.length + LONG_RESTS.length);
});

test('a reset of a client within the first bytes of a TLS record stays a reset', async () => {
  const { proxy, backend, open } = await start('tls', 'tcp');
  for (const bytes of RESTS) {
    const client = await open();
    const { socket } = await connected(client.stream, backend);
    socket.end();
    await once(client.stream.resume(), 'end');
    breakOffInRecord(client, bytes);
    await closed(socket);
  }
  await expectResets(proxy, 'client', RESTS.length);
});

test.each(CIPHERS)('an end by close_notify after a half-close is an end, %s %s', async (version, cipher) => {
  const tls = { minVersion: version, maxVersion: version, ciphers: cipher };
  const { proxy, backend, open } = await start('tls', 'tcp', tls);
  const { stream: client } = await open();
  const { socket, ended } = await connected(client, backend);
  socket.end();
  await once(client.resume(), 'end');
  client.end('the rest');
  expect(await ended).toBe('end');
  await proxy.endsWithNothingLeaked();
  expect(proxy.log.lines.find((line) => 'close.reason' in line)).toMatchObject({
    'close.reason': 'finished',
  });
});

/** The log tells: here, too, who has ended its side may take a reset for an end. What a reset becomes: relay-endings. */
async function expectResets(
  proxy: ProxyProcess,
  initiator: 'client' | 'upstream',
  count = SIZES.length * ROUNDS,
): Promise<void> {
  await proxy.endsWithNothingLeaked();
  const ends = proxy.log.lines.filter((line) => 'close.reason' in line);
  expect(ends).toHaveLength(count);
  for (const line of ends)
    expect(line).toMatchObject({ 'close.reason': 'reset', 'close.initiator': initiator });
}
