import fc from 'fast-check';
import { once } from 'node:events';
import {
  connect as connectHttp2,
  constants,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
} from 'node:http2';
import { connect, createServer, type Socket } from 'node:net';
import { credentials, Metadata, makeClientConstructor, status, type ServiceError } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { answerCalls } from '../../src/connection/stages/refuse-client.js';
import { Http2Answer, GrpcCode } from '../../src/connection/answer/call-answer.js';
import { MAX_ANSWERED_BYTES, UNAVAILABLE_WINDOW_MS } from '../../src/limits.js';
import {
  ACK,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  framesOf,
  HEADERS,
  PING,
  PRIORITY,
  SETTINGS,
} from '../support/http2-frames.js';

const MESSAGE = 'Gitaly at tcp://10.0.0.1:8075 cannot be reached: 100 % „höchst“ nicht da, 届かない';
const LONG = `${MESSAGE}; ${'and another address that was tried, '.repeat(10)}end`;

function unavailable(message: string) {
  return { code: GrpcCode.unavailable, message };
}

/** A listener in front of an upstream that is down; its connections. */
async function start(message: string): Promise<{ port: number; accepted: Promise<Socket> }> {
  const server = createServer({ allowHalfOpen: true });
  const accepted = new Promise<Socket>((resolve) => {
    server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      onTestFinished(() => void socket.destroy());
      const head = { value: 'http2', bytes: Buffer.alloc(0) } as const;
      const done = answerCalls(socket, head, unavailable(message), UNAVAILABLE_WINDOW_MS);
      void done.then(() => socket.destroy());
      resolve(socket);
    });
  });
  server.listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not bound');
  return { port: address.port, accepted };
}

describe.each([
  ['a message with % and characters beyond ASCII', MESSAGE],
  ['a message longer than a one-byte length', LONG],
])('%s', (_name, message) => {
  test('reaches a call of grpc-js as UNAVAILABLE', async () => {
    const { port } = await start(message);
    const Client = makeClientConstructor({}, 'x');
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    onTestFinished(() => {
      client.close();
    });
    const error = await new Promise<ServiceError | null>((resolve) => {
      client.makeUnaryRequest(
        '/gitaly.CommitService/FindCommit',
        (value: Buffer) => value,
        (value: Buffer) => value,
        Buffer.from('request'),
        new Metadata(),
        (failure) => resolve(failure),
      );
    });
    expect(error?.code).toBe(status.UNAVAILABLE);
    expect(error?.details).toBe(message);
  });

  test("reaches every stream of Node's own client, then comes GOAWAY and the end", async () => {
    const { port } = await start(message);
    const session = http2Client(port);
    const headers = await Promise.all([1, 2, 3].map(() => call(session)));
    for (const trailers of headers) {
      expect(trailers[':status']).toBe(200);
      expect(trailers['content-type']).toBe('application/grpc');
      expect(trailers['grpc-status']).toBe('14');
      expect(decodeURIComponent(String(trailers['grpc-message']))).toBe(message);
    }
    const [[code, lastStream]] = (await Promise.all([once(session, 'goaway'), once(session, 'close')])) as [
      [number, number],
      unknown,
    ];
    expect(code).toBe(constants.NGHTTP2_NO_ERROR);
    expect(lastStream).toBe(5);
  });
});

function http2Client(port: number): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

async function call(session: ClientHttp2Session): Promise<IncomingHttpHeaders> {
  const stream = session.request({ ':method': 'POST', ':path': '/a/b' });
  stream.resume();
  stream.write('a request that is never ended');
  const [[headers]] = (await Promise.all([once(stream, 'response'), once(stream, 'close')])) as [
    [IncomingHttpHeaders],
    unknown,
  ];
  expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
  return headers;
}

/** Keeps the connection from ending by itself, however slow the machine. */
function holdWindow(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

test('a client pings, and its settings are acknowledged', async () => {
  holdWindow();
  const { port } = await start(MESSAGE);
  const session = http2Client(port);
  await once(session, 'localSettings');
  const payload = await new Promise<Buffer>((resolve, reject) => {
    session.ping(Buffer.from('01234567'), (error, _duration, echoed) => {
      if (error) reject(error);
      else resolve(echoed);
    });
  });
  expect(payload.toString()).toBe('01234567');
});

test('any message arrives whole or cut at a character, within one frame', async () => {
  holdWindow();
  const parts = fc.array(fc.constantFrom('a', '%', 'ü', '届', '😀', '\n'), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(parts, fc.integer({ min: 1, max: 4000 }), async (characters, repeat) => {
      const message = characters.join('').repeat(repeat);
      const { port, accepted } = await start(message);
      const session = http2Client(port);
      const headers = await call(session);
      session.destroy();
      (await accepted).destroy();
      const seen = decodeURIComponent(String(headers['grpc-message']));
      expect(message.startsWith(seen)).toBe(true);
      expect(seen.length).toBeGreaterThan(Math.min(message.length, 500) - 2);
    }),
    {
      numRuns: 20,
      examples: [
        [['届'], 4000],
        [['a', '😀'], 3000],
        [['%'], 4000],
      ],
    },
  );
});

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** The streams that an answer ended. */
function answered(bytes: Buffer): number[] {
  return framesOf(bytes)
    .filter(({ type }) => type === HEADERS)
    .map(({ streamId }) => streamId);
}

const CONVERSATION = Buffer.concat([
  PREFACE,
  frame(SETTINGS, 0, 0, Buffer.alloc(18)),
  frame(HEADERS, END_HEADERS, 1, Buffer.alloc(200)),
  frame(DATA, END_STREAM, 1, Buffer.alloc(1000)),
  frame(SETTINGS, ACK, 0),
  frame(PING, 0, 0, Buffer.from('01234567')),
  frame(PING, ACK, 0, Buffer.from('76543210')),
  frame(HEADERS, END_STREAM, 3, Buffer.alloc(100)),
  frame(CONTINUATION, 0, 3, Buffer.alloc(100)),
  frame(CONTINUATION, END_HEADERS, 3, Buffer.alloc(10)),
  frame(0xfa, 0xff, 7, Buffer.alloc(300)),
  frame(HEADERS, END_HEADERS | END_STREAM, 1, Buffer.alloc(10)),
  frame(PRIORITY, 0, 9, Buffer.alloc(5)),
  frame(HEADERS, END_HEADERS, 5, Buffer.alloc(50)),
]);

describe('CallAnswer', () => {
  test('answers what asks for an answer, and nothing else', () => {
    const frames = framesOf(new Http2Answer(unavailable('down')).receive(CONVERSATION));
    expect(frames.map(({ type, flags, streamId }) => [type, flags, streamId])).toEqual([
      [SETTINGS, ACK, 0],
      [HEADERS, END_STREAM | END_HEADERS, 1],
      [3, 0, 1],
      [PING, ACK, 0],
      // The stream whose header block went on in CONTINUATION frames is answered when it is whole; the trailers of
      // stream 1 are no new call.
      [HEADERS, END_STREAM | END_HEADERS, 3],
      [3, 0, 3],
      [HEADERS, END_STREAM | END_HEADERS, 5],
      [3, 0, 5],
    ]);
    expect(frames[3]?.payload.toString()).toBe('01234567');
  });

  test('gives the same bytes out whatever slices come in', () => {
    const whole = new Http2Answer(unavailable(LONG)).receive(CONVERSATION);
    for (let at = 0; at <= CONVERSATION.length; at++) {
      const answer = new Http2Answer(unavailable(LONG));
      const parts = [answer.receive(CONVERSATION.subarray(0, at)), answer.receive(CONVERSATION.subarray(at))];
      if (!Buffer.concat(parts).equals(whole)) throw new Error(`split at ${at}`);
    }
    const answer = new Http2Answer(unavailable(LONG));
    const parts = [...CONVERSATION].map((byte) => answer.receive(Buffer.from([byte])));
    expect(Buffer.concat(parts).equals(whole)).toBe(true);
  });

  test.each([
    [
      'a frame longer than SETTINGS_MAX_FRAME_SIZE, before its payload',
      frame(DATA, 0, 1, Buffer.alloc(16_385)).subarray(0, 9),
    ],
    ['a PING that is not 8 bytes long', frame(PING, 0, 0, Buffer.alloc(7))],
  ])('ends at %s with FRAME_SIZE_ERROR', (_name, bytes) => {
    const answer = new Http2Answer(unavailable('down'));
    const [goaway, ...more] = framesOf(answer.receive(Buffer.concat([PREFACE, bytes])));
    expect(more).toEqual([]);
    expect(goaway).toMatchObject({ type: 7, streamId: 0 });
    expect(goaway?.payload.readUInt32BE(4)).toBe(constants.NGHTTP2_FRAME_SIZE_ERROR);
    expect(answer.closed).toBe(true);
    expect(answer.receive(CONVERSATION)).toHaveLength(0);
    expect(answer.end()).toHaveLength(0);
  });

  test('its GOAWAY names the last stream that it has answered', () => {
    const answer = new Http2Answer(unavailable('down'));
    answer.receive(CONVERSATION);
    const [goaway] = framesOf(answer.end());
    expect(goaway?.payload).toEqual(Buffer.from([0, 0, 0, 5, 0, 0, 0, 0]));
    expect(answer.closed).toBe(true);
  });

  test('accepts the largest frame, and no byte beyond its length', () => {
    const answer = new Http2Answer(unavailable('down'));
    answer.receive(PREFACE);
    const data = frame(DATA, 0, 1, Buffer.alloc(16_384));
    for (let received = 24; received + data.length <= MAX_ANSWERED_BYTES; received += data.length)
      expect(answer.receive(data)).toHaveLength(0);
    expect(answer.closed).toBe(false);
    expect(framesOf(answer.receive(data))).toMatchObject([{ type: 7 }]);
    expect(answer.closed).toBe(true);
  });

  test('sends at most MAX_ANSWERED_BYTES, although nine bytes of a client request hundreds', () => {
    const answer = new Http2Answer(unavailable('down '.repeat(400)));
    const asked = Array.from({ length: 8000 }, (_, index) => frame(HEADERS, END_HEADERS, 2 * index + 1));
    const said = answer.receive(Buffer.concat([PREFACE, ...asked]));
    expect(said.length).toBeLessThan(MAX_ANSWERED_BYTES + 16_384);
    expect(answer.closed).toBe(true);
    const frames = framesOf(said);
    const last = answered(said).at(-1);
    expect(frames.at(-1)?.payload.readUInt32BE(0)).toBe(last);
  });

  test('arbitrary bytes never throw', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 })), fc.boolean(), (slices, preface) => {
        const answer = new Http2Answer(unavailable('down'));
        if (preface) answer.receive(PREFACE);
        for (const slice of slices) framesOf(answer.receive(Buffer.from(slice)));
      }),
      { numRuns: 1000 },
    );
  });
});

test('a client that does not read is not read: what waits for it is bounded', async () => {
  holdWindow();
  const { port, accepted } = await start(MESSAGE);
  const client = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void client.destroy());
  const server = await accepted;
  // A corked socket is one whose client takes nothing, whatever the kernel's buffers hold.
  server.cork();
  const count = 30_000;
  const ping = frame(PING, 0, 0, Buffer.from('01234567'));
  client.write(Buffer.concat([PREFACE, ...Array<Buffer>(count).fill(ping)]));
  await once(server, 'pause');
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  expect(server.isPaused()).toBe(true);
  // One read, and what Node's stream holds of the next.
  const bound = 4 * 65_536;
  expect(server.bytesRead).toBeLessThan(bound);
  expect(server.writableLength).toBeLessThan(bound);

  let answered = 0;
  client.on('data', (bytes: Buffer) => (answered += bytes.length));
  server.uncork();
  const acknowledged = frame(SETTINGS, 0, 0).length + count * ping.length;
  while (answered < acknowledged) await once(client, 'data');
  expect(answered).toBe(acknowledged);
});
