import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import {
  BACKCHANNEL_MAGIC,
  block,
  BOMB,
  EMPTY_DATA,
  expensiveHello,
  frame,
  headers,
  INVALID_BLOCK,
  PADDED_INTEGER_BLOCK,
  PREFACE,
  rapidReset,
  TINY_CHUNKS,
  TINY_FRAMES,
  yamux,
  yamuxOpen,
} from './wire.mjs';

/**
 * The facts that an attacker gets.
 * @typedef {object} Target
 * @property {number} port `tls://`, to a backend that answers
 * @property {number} stalledPort `tls://`, to a backend that never reads
 * @property {number} requiredPort `tls://` with `inspect: required`
 * @property {number} gatePort `https://`, client certificate required
 * @property {number} openGatePort `https://`, no client certificate required
 * @property {number} stalledGatePort the same, to a server that never reads or answers
 * @property {number} adminPort
 * @property {readonly number[]} pids of the proxy's processes
 * @property {number} mutePort `tls://`, to a backend that accepts and never sends or reads
 * @property {string} source the address that it comes from
 * @property {string} otherSource another one
 * @property {string} forgedKey of the first certificate of each chain, PEM
 * @property {readonly string[]} forgedChains PEM
 */

/**
 * One kind of attack.
 * @typedef {object} Attack
 * @property {string} title
 * @property {number} concurrency concurrent strokes
 * @property {number} pauseMs between two strokes of one attacker
 * @property {(target: Target, index: number) => Promise<string>} stroke the result, in one or two words
 */

/** How long an attacker waits for a response, and how long it keeps a connection open. */
const PATIENCE_MS = 5000;
const HOLD_MS = 3000;

/** @type {Record<string, Attack>} */
export const ATTACKS = {
  'key-exchange': {
    title: 'ClientHello with a single expensive group',
    concurrency: 4,
    pauseMs: 100,
    async stroke({ port, source }, index) {
      const socket = await tcp(port, source);
      socket.write(expensiveHello(index));
      const first = await firstBytes(socket);
      socket.destroy();
      // The first byte of a record: 21 an alert, 22 a ServerHello.
      return first === undefined ? 'closed' : first[0] === 21 ? 'alert' : 'answered';
    },
  },
  renegotiation: {
    title: 'TLS 1.2 and one renegotiation after the other',
    concurrency: 2,
    pauseMs: 100,
    async stroke({ port, source }) {
      const socket = connectTls({ ...client(port, source), maxVersion: 'TLSv1.2' });
      socket.on('error', () => {});
      const closed = happens(socket, 'close').then(() => 'refused');
      await Promise.race([happens(socket, 'secureConnect'), closed]);
      /** @type {Promise<string>} */
      const renegotiated = new Promise((resolve) => {
        socket.renegotiate({ rejectUnauthorized: false }, (error) =>
          resolve(error ? 'refused' : 'renegotiated'),
        );
      });
      const outcome = await Promise.race([renegotiated, closed, pause(PATIENCE_MS, 'no answer')]);
      socket.destroy();
      return outcome;
    },
  },
  'open-calls': {
    title: 'backchannels with 8 gRPC connections of 10 000 open calls',
    concurrency: 2,
    pauseMs: 500,
    async stroke({ port, source }) {
      const socket = await tls(port, source);
      const calls = Array.from({ length: 10_000 }, (_, index) => headers(2 * index + 1));
      const connection = Buffer.concat([PREFACE, ...calls]);
      socket.write(BACKCHANNEL_MAGIC);
      for (let streamId = 1; streamId < 16 && !socket.destroyed; streamId += 2)
        if (!socket.write(yamuxOpen(streamId, connection))) await drained(socket);
      return hold(socket);
    },
  },
  'forged-chain': {
    title: 'client chains that are expensive to verify and not validly signed, to the relay and to the gate',
    concurrency: 1,
    pauseMs: 300,
    async stroke({ port, gatePort, source, forgedKey, forgedChains }, index) {
      const version = index % 2 === 0 ? 'TLSv1.3' : 'TLSv1.2';
      const socket = connectTls({
        ...client(index % 4 < 2 ? port : gatePort, source),
        cert: forgedChains[Math.floor(index / 4) % forgedChains.length],
        key: forgedKey,
        // The client's own library must accept the chain.
        ciphers: 'DEFAULT:@SECLEVEL=0',
        minVersion: version,
        maxVersion: version,
      });
      const end = await ending(socket, PATIENCE_MS);
      return end === 'open' ? 'still open' : 'refused';
    },
  },
  'refused-requests': {
    title: 'requests without end of a client that the gate refuses',
    concurrency: 8,
    pauseMs: 200,
    async stroke({ gatePort, source }, index) {
      if (index % 2 === 0) return refusedHttp1Request(gatePort, source);
      const toGate = { rejectUnauthorized: false, localAddress: source, settings: { initialWindowSize: 0 } };
      const session = connectHttp2(`https://127.0.0.1:${gatePort}`, toGate);
      /** @type {Promise<string>} */
      const closed = new Promise((resolve) => session.once('close', () => resolve('closed')));
      session.on('error', () => {});
      const request = session.request({ ':method': 'POST', ':path': '/api/v4/internal/allowed' });
      request.on('error', () => {});
      request.resume();
      const outcome = await Promise.race([closed, pause(PATIENCE_MS, 'still open')]);
      session.destroy();
      return outcome;
    },
  },
  'tiny-records': {
    title: 'TLS records of one byte to an upstream that does not read, before or after it has answered',
    concurrency: 2,
    pauseMs: 500,
    async stroke({ stalledPort, mutePort, source }, index) {
      const socket = await tls(index % 2 === 0 ? stalledPort : mutePort, source);
      socket.write(PREFACE);
      socket.write(headers(1));
      socket.write(Buffer.from([0, 255, 255, 0, 0, 0, 0, 0, 1]));
      const until = Date.now() + HOLD_MS;
      for (let sent = 0; sent < 60_000 && !socket.destroyed && Date.now() < until; sent += 1)
        if (!socket.write('x')) await drainedWithin(socket, until - Date.now());
      return hold(socket);
    },
  },
  'tiny-content': {
    title: 'chunks and DATA frames of one byte to the gate, whose upstream reads them or does not',
    concurrency: 2,
    pauseMs: 500,
    async stroke({ openGatePort, stalledGatePort, source }, index) {
      const port = index % 4 < 2 ? openGatePort : stalledGatePort;
      const protocol = index % 2 === 0 ? 'http/1.1' : 'h2';
      const socket = await tls(port, source, protocol);
      const content = protocol === 'h2' ? TINY_FRAMES : TINY_CHUNKS;
      for (const piece of content)
        if (!socket.destroyed && !socket.write(piece)) await drainedWithin(socket, HOLD_MS);
      return hold(socket);
    },
  },
  'early-reset': {
    title: 'preface and SETTINGS, then a reset at once',
    concurrency: 4,
    pauseMs: 100,
    async stroke({ port, source }) {
      const raw = await tcp(port, source);
      const socket = connectTls({ ...client(port, source), socket: raw, minVersion: 'TLSv1.3' });
      socket.on('error', () => {});
      await once(socket, 'secureConnect');
      socket.write(PREFACE, () => raw.resetAndDestroy());
      await once(raw, 'close');
      return 'reset';
    },
  },
  'lost-inspector': {
    title: 'rapid resets behind bytes that are hard to follow',
    concurrency: 1,
    pauseMs: 500,
    async stroke({ port, source }, index) {
      const socket = await tls(port, source);
      const flood = (/** @type {Uint8Array} */ block) =>
        Buffer.concat([
          PREFACE,
          ...Array.from({ length: 20_000 }, (_, call) => rapidReset(2 * call + 1, block)),
        ]);
      if (index % 4 === 0) socket.write(flood(PADDED_INTEGER_BLOCK));
      else if (index % 4 === 3) socket.write(Buffer.concat([PREFACE, headers(1), ...EMPTY_DATA]));
      else {
        socket.write(BACKCHANNEL_MAGIC);
        if (index % 4 === 1) socket.write(yamuxOpen(2001, Buffer.from('X')));
        const bytes = flood(Buffer.from([0x82]));
        const streamId = index % 4 === 1 ? 1 : 2001;
        socket.write(yamux(0, 1, streamId, 0));
        for (let sent = 0; sent < bytes.length; sent += 60_000)
          socket.write(
            yamux(0, 0, streamId, Math.min(60_000, bytes.length - sent), bytes.subarray(sent, sent + 60_000)),
          );
      }
      const end = await ending(socket, PATIENCE_MS);
      return end === 'open' ? 'not stopped' : 'closed';
    },
  },
  'required-inspection': {
    title: 'calls that cannot be followed, where `inspect: required` closes such connections',
    concurrency: 2,
    pauseMs: 100,
    async stroke({ requiredPort, source }, index) {
      const socket = await tls(requiredPort, source);
      if (index % 2 === 0) socket.write(Buffer.concat([PREFACE, headers(1, INVALID_BLOCK)]));
      else socket.write(Buffer.concat([BACKCHANNEL_MAGIC, yamuxOpen(1, Buffer.from('X'))]));
      const end = await ending(socket, PATIENCE_MS);
      return end === 'open' ? 'still open' : 'closed';
    },
  },
  'large-metadata': {
    title: 'header blocks of 15 MB, compressed to 8 kB',
    concurrency: 1,
    pauseMs: 500,
    async stroke({ port, source }) {
      const socket = await tls(port, source);
      const bombs = Array.from({ length: 40 }, (_, index) => headers(2 * index + 1, BOMB));
      socket.write(Buffer.concat([PREFACE, ...bombs]));
      const end = await ending(socket, PATIENCE_MS);
      return end === 'open' ? 'not stopped' : 'closed';
    },
  },
  'no-answer-to-ping': {
    title: 'clients that answer no PING and make calls without end, over HTTP/2 and the backchannel',
    concurrency: 4,
    pauseMs: 500,
    async stroke({ port, source }, index) {
      const socket = await tls(port, source);
      const begin = Buffer.concat([PREFACE, frame(4, 1, 0)]);
      const isBackchannel = index % 2 === 1;
      if (isBackchannel) socket.write(Buffer.concat([BACKCHANNEL_MAGIC, yamuxOpen(1, begin)]));
      else socket.write(begin);
      const until = Date.now() + 60_000;
      for (let call = 0; !socket.destroyed && Date.now() < until; call += 1) {
        const bytes = unaryCall(2 * call + 1);
        socket.write(isBackchannel ? yamux(0, 0, 1, bytes.length, bytes) : bytes);
        await pause(250);
      }
      const end = socket.destroyed ? 'closed' : 'outlived max_connection_age';
      socket.destroy();
      return end;
    },
  },
  'log-flood': {
    title: 'thousands of open calls, all cut at once',
    concurrency: 2,
    pauseMs: 1000,
    async stroke({ port, source }) {
      const socket = await tls(port, source);
      const calls = Array.from({ length: 9000 }, (_, index) => headers(2 * index + 1));
      socket.write(Buffer.concat([PREFACE, ...calls]));
      await Promise.race([firstBytes(socket), pause(PATIENCE_MS)]);
      socket.destroy();
      return 'cut';
    },
  },
  'idle-prefaces': {
    title: 'connections that are opened, say their preface and do nothing else',
    concurrency: 300,
    pauseMs: 1000,
    async stroke({ port, source, otherSource }, index) {
      // More than one address may have, and from both more than the share of unauthenticated clients.
      const from = index % 3 === 0 ? otherSource : source;
      if (index % 2 === 0) return hold(await tcp(port, from));
      const socket = await tls(port, from);
      socket.write(PREFACE);
      return hold(socket);
    },
  },
  'admin-port': {
    title: 'kept connections and slow readers of the largest pages on the admin port',
    concurrency: 24,
    pauseMs: 100,
    async stroke({ adminPort, source }, index) {
      const path = ['/metrics', '/-/rpcs?limit=100000', '/-/connections?limit=100000', '/-/liveness'][
        index % 4
      ];
      const host = index % 5 === 0 ? 'attacker.example' : `127.0.0.1:${adminPort}`;
      const socket = await tcp(adminPort, source);
      const origin = index % 7 === 0 ? 'origin: http://attacker.example\r\n' : '';
      socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\n${origin}\r\n`);
      const first = await Promise.race([firstBytes(socket), pause(PATIENCE_MS)]);
      const status = first instanceof Buffer ? first.toString('latin1').split(' ')[1] : 'no answer';
      await hold(socket);
      return status ?? 'no answer';
    },
  },
  signals: {
    title: 'SIGUSR1 and SIGUSR2 to each process, and a look for the debugger',
    concurrency: 1,
    pauseMs: 10_000,
    async stroke({ pids }, index) {
      for (const pid of pids) process.kill(pid, index % 2 === 0 ? 'SIGUSR1' : 'SIGUSR2');
      await pause(500);
      /** @type {Promise<string>} */
      const answered = new Promise((resolve) => {
        const request = httpRequest({ port: 9229, path: '/json/list', timeout: 1000 }, () =>
          resolve('debugger open'),
        );
        request.once('error', () => resolve('no debugger'));
        request.once('timeout', () => request.destroy(new Error('no answer')));
        request.end();
      });
      return answered;
    },
  },
};

/**
 * A POST over HTTP/1.1 whose body never comes, on a connection that the client does not end.
 * @param {number} port
 * @param {string} source
 */
async function refusedHttp1Request(port, source) {
  const socket = connectTls(client(port, source, 'http/1.1'));
  socket.on('error', () => {});
  socket.write('POST /api/v4/internal/allowed HTTP/1.1\r\nhost: gate\r\ncontent-length: 1000000\r\n\r\n');
  const end = await ending(socket, PATIENCE_MS);
  return end === 'open' ? 'still open' : 'closed';
}

/**
 * A whole call of `bench.Load/Unary` without a message.
 * @param {number} streamId
 */
function unaryCall(streamId) {
  const fields = block({
    ':path': '/bench.Load/Unary',
    ':authority': 'localhost',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  // `:method: POST` and `:scheme: https` of the static table.
  const whole = Buffer.concat([Buffer.from([0x83, 0x87]), fields]);
  return Buffer.concat([headers(streamId, whole), frame(0, 1, streamId, Buffer.alloc(5))]);
}

/**
 * @param {number} port
 * @param {string} source
 */
function client(port, source, protocol = 'h2') {
  return {
    host: '127.0.0.1',
    port,
    localAddress: source,
    servername: 'localhost',
    ALPNProtocols: [protocol],
    rejectUnauthorized: false,
  };
}

/**
 * @param {number} port
 * @param {string} source
 * @returns {Promise<import('node:net').Socket>}
 */
async function tcp(port, source) {
  const socket = connectTcp({ host: '127.0.0.1', port, localAddress: source });
  socket.on('error', () => {});
  const closed = once(socket, 'close').then(() => {
    throw new Error('refused');
  });
  closed.catch(() => {});
  await Promise.race([once(socket, 'connect'), closed]);
  return socket;
}

/**
 * After the handshake.
 * @param {number} port
 * @param {string} source
 * @param {string} [protocol] of ALPN
 */
async function tls(port, source, protocol) {
  const socket = connectTls(client(port, source, protocol));
  socket.on('error', () => {});
  socket.on('data', () => {});
  const closed = once(socket, 'close').then(() => {
    throw new Error('refused');
  });
  closed.catch(() => {});
  await Promise.race([once(socket, 'secureConnect'), closed]);
  return socket;
}

/**
 * The first bytes that come; `undefined` if the connection ends before.
 * @param {import('node:net').Socket} socket
 * @returns {Promise<Buffer | undefined>}
 */
function firstBytes(socket) {
  return new Promise((resolve) => {
    socket.once('data', resolve);
    socket.once('close', () => resolve(undefined));
  });
}

/** @param {import('node:net').Socket} socket */
function drained(socket) {
  return happens(socket, 'drain', 'close');
}

/**
 * The same for a peer that may read nothing.
 * @param {import('node:net').Socket} socket
 * @param {number} ms
 */
function drainedWithin(socket, ms) {
  return Promise.race([drained(socket), pause(ms)]);
}

/**
 * Waits for the first of some events.
 * @param {import('node:net').Socket} socket
 * @param {readonly string[]} events
 * @returns {Promise<void>}
 */
function happens(socket, ...events) {
  return new Promise((resolve) => {
    const settle = () => {
      for (const event of events) socket.off(event, settle);
      resolve();
    };
    for (const event of events) socket.on(event, settle);
  });
}

/**
 * How a connection ends, or that it does not.
 * @param {import('node:net').Socket} socket
 * @param {number} ms
 */
async function ending(socket, ms) {
  socket.on('error', () => {});
  socket.on('data', () => {});
  if (socket.closed) return 'closed';
  const closed = once(socket, 'close').then(() => 'closed');
  const outcome = await Promise.race([closed, pause(ms, 'open', { ref: false })]);
  socket.destroy();
  return outcome;
}

/**
 * Keeps a connection open for a while.
 * @param {import('node:net').Socket} socket
 */
async function hold(socket) {
  const end = await ending(socket, HOLD_MS);
  return end === 'open' ? 'held' : 'closed';
}
