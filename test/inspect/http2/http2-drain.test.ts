import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Drain } from '../../../src/inspect/drain.js';
import { Http2Editor } from '../../../src/inspect/http2/http2-editor.js';
import {
  frame,
  goAwayFrame,
  MAX_STREAM_ID,
  pingFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../../src/inspect/http2/encode.js';
import { CLIENT_PREFACE, Flag, FrameType } from '../../../src/inspect/http2/http2-frame.js';
import { FIELD_NAMES } from '../../../src/inspect/grpc/fields.js';
import { Http2Inspector } from '../../../src/inspect/http2/http2-inspector.js';
import type { StreamObserver } from '../../../src/inspect/http2/stream-observer.js';
import { other, type Sender } from '../../../src/inspect/sender.js';

const TOKEN = Buffer.from('12345678');
const ANNOUNCEMENT = Buffer.concat([goAwayFrame(MAX_STREAM_ID, 0), pingFrame(TOKEN, 'ping')]);
const ANSWER = pingFrame(TOKEN, 'ack');

const SILENT: StreamObserver = {
  headers: () => undefined,
  data: () => undefined,
  ended: () => undefined,
  reset: () => undefined,
  cut: () => undefined,
};

/** A request or an answer: one field of the static table, `:method: GET` or `:status: 200`. */
function headers(sender: Sender, streamId: number, ...flags: number[]): Buffer {
  const all = flags.reduce((one, more) => one | more, Flag.endHeaders);
  return frame(FrameType.headers, all, streamId, Buffer.from([sender === 'client' ? 0x82 : 0x88]));
}

function data(streamId: number, length: number, flags = 0): Buffer {
  return frame(FrameType.data, flags, streamId, Buffer.alloc(length, streamId));
}

/** A connection whose two streams of bytes go through the drain once it has begun. */
class Drained {
  readonly inspector = new Http2Inspector(FIELD_NAMES, { open: () => SILENT, release: () => undefined });
  readonly out: Record<Sender, Buffer[]> = { client: [], server: [] };
  editor: Http2Editor | undefined;
  drain: Drain | undefined;

  begin(): void {
    this.editor = new Http2Editor(this.inspector, (bytes) => this.out.client.push(bytes));
    this.drain = this.editor.drain(TOKEN);
  }

  /** What `sender` sends, on its way to the other. The bytes are the caller's: they change after the call. */
  say(sender: Sender, ...frames: Buffer[]): void {
    const bytes = Buffer.concat(frames);
    const passed = this.editor
      ? this.editor.pass(sender, bytes, 0)
      : (this.inspector.read(sender, bytes, 0, bytes.length, 0), bytes);
    this.out[other(sender)].push(Buffer.from(passed));
    bytes.fill(0xee);
  }

  received(receiver: Sender): Buffer {
    const all = Buffer.concat(this.out[receiver]);
    this.out[receiver] = [];
    return all;
  }

  /** A connection on which so much has been said that frames may be put in, its ends' first words taken. */
  static opened(): Drained {
    const drained = new Drained();
    drained.say('client', CLIENT_PREFACE, settingsFrame('settings'));
    drained.say('server', settingsFrame('settings'));
    drained.received('client');
    drained.received('server');
    return drained;
  }
}

describe('an idle connection', () => {
  test('a client gets the first GOAWAY at once, and is drained when it has answered the PING', () => {
    const drained = Drained.opened();
    drained.begin();
    expect(drained.received('client')).toEqual(ANNOUNCEMENT);
    expect(drained.drain?.finished).toBe(false);
    drained.say('client', ANSWER);
    expect(drained.received('server')).toEqual(Buffer.alloc(0));
    expect(drained.received('client')).toEqual(goAwayFrame(0, 0));
    expect(drained.drain?.finished).toBe(true);
  });

  test('a client gets no GOAWAY before the SETTINGS of the server, which must be the first frame', () => {
    const drained = new Drained();
    drained.say('client', CLIENT_PREFACE, settingsFrame('settings'));
    drained.begin();
    expect(drained.received('client')).toEqual(Buffer.alloc(0));
    drained.say('server', settingsFrame('settings'));
    expect(drained.received('client')).toEqual(Buffer.concat([settingsFrame('settings'), ANNOUNCEMENT]));
  });
});

test('a call that began before the client knew is named as the last and finishes; the connection is done then', () => {
  const drained = Drained.opened();
  drained.say('client', headers('client', 1, Flag.endStream));
  drained.begin();
  // On its way when the GOAWAY came; its end is not.
  drained.say('client', headers('client', 3), ANSWER);
  expect(drained.received('client')).toEqual(Buffer.concat([ANNOUNCEMENT, goAwayFrame(3, 0)]));
  drained.say('server', headers('server', 1, Flag.endStream));
  drained.say('client', data(3, 10, Flag.endStream));
  expect(drained.drain?.finished).toBe(false);
  drained.say('server', headers('server', 3), data(3, 10), headers('server', 3, Flag.endStream));
  expect(drained.drain?.finished).toBe(true);
});

test('a stream above the last that was named does not reach the server, whatever is sent on it; the others do', () => {
  const drained = Drained.opened();
  drained.say('client', headers('client', 1));
  drained.begin();
  drained.say('client', ANSWER);
  drained.received('server');
  const late = frame(FrameType.headers, 0, 3, Buffer.from([0x82]));
  const rest = frame(FrameType.continuation, Flag.endHeaders, 3, Buffer.from([0x84]));
  drained.say(
    'client',
    data(1, 5),
    late,
    rest,
    data(3, 100),
    data(1, 6),
    data(3, 7, Flag.endStream),
    data(1, 8),
  );
  expect(drained.received('server')).toEqual(Buffer.concat([data(1, 5), data(1, 6), data(1, 8)]));
  expect(drained.editor?.failure).toBeUndefined();
});

test('a client that does not answer begins no more streams once its time is up; its late answer is kept from the server', () => {
  const drained = Drained.opened();
  drained.begin();
  drained.say('client', headers('client', 1));
  drained.drain?.insist();
  expect(drained.received('client')).toEqual(Buffer.concat([ANNOUNCEMENT, goAwayFrame(1, 0)]));
  drained.received('server');
  drained.say('client', headers('client', 3), data(3, 10), ANSWER, data(1, 5, Flag.endStream));
  expect(drained.received('server')).toEqual(data(1, 5, Flag.endStream));
  drained.say('server', headers('server', 1, Flag.endStream));
  expect(drained.drain?.finished).toBe(true);
});

test('a stream whose header block is open when its client’s time is up is named as the last, and passes', () => {
  for (const cut of [10, 15]) {
    const drained = Drained.opened();
    const first = frame(FrameType.headers, 0, 1, Buffer.from([0x82, 0x82, 0x82, 0x82, 0x82, 0x82]));
    const rest = [frame(FrameType.continuation, Flag.endHeaders, 1, Buffer.from([0x84])), data(1, 5)];
    drained.say('client', first.subarray(0, cut));
    drained.begin();
    drained.drain?.insist();
    expect(drained.received('client')).toEqual(Buffer.concat([ANNOUNCEMENT, goAwayFrame(1, 0)]));
    expect(drained.drain?.finished).toBe(false);
    drained.say('client', first.subarray(cut), ...rest);
    expect(drained.received('server')).toEqual(Buffer.concat([first, ...rest]));
  }
});

test('the data of a stream that does not reach the server is returned to the window of the connection', () => {
  const drained = Drained.opened();
  drained.begin();
  drained.say('client', headers('client', 1), ANSWER);
  drained.received('client');
  drained.say('client', headers('client', 3), data(3, 100), data(1, 6), data(3, 7, Flag.endStream));
  expect(drained.received('client')).toEqual(windowUpdateFrame(0, 107));
});

test('PINGs of others, their answers, and frames like ours but for a bit, pass', () => {
  const drained = Drained.opened();
  drained.begin();
  const others = [
    pingFrame(TOKEN, 'ping'),
    pingFrame(Buffer.from('12345679'), 'ack'),
    frame(FrameType.priority, Flag.ack, 1, Buffer.alloc(5)),
    frame(0xfa, Flag.ack, 0, TOKEN),
  ];
  for (const one of others) {
    drained.say('client', one);
    expect(drained.received('server')).toEqual(one);
  }
  drained.say('client', ANSWER, pingFrame(TOKEN, 'ack'));
  // Ours is answered once: a second answer is the client's own affair.
  expect(drained.received('server')).toEqual(ANSWER);
});

describe('a connection whose calls cannot be followed, but whose frames can,', () => {
  /** SETTINGS of a stream. */
  const BROKEN = frame(FrameType.settings, 0, 1, Buffer.alloc(6));

  test('gets GOAWAY and PING between two frames of the server, and begins no stream after the second GOAWAY', () => {
    const drained = Drained.opened();
    drained.say('client', headers('client', 1), BROKEN);
    const [answer, rest] = [data(1, 20), headers('server', 1, Flag.endStream)];
    drained.say('server', answer.subarray(0, 15));
    drained.received('server');
    drained.received('client');
    drained.begin();
    expect(drained.received('client')).toEqual(Buffer.alloc(0));
    drained.say('server', Buffer.concat([answer.subarray(15), rest]));
    expect(drained.received('client')).toEqual(Buffer.concat([answer.subarray(15), ANNOUNCEMENT, rest]));
    expect(drained.editor?.failure).toBe('frame');
    drained.say('client', headers('client', 3), ANSWER, headers('client', 5), data(3, 1));
    expect(drained.received('client')).toEqual(goAwayFrame(3, 0));
    expect(drained.received('server')).toEqual(Buffer.concat([headers('client', 3), data(3, 1)]));
    // Which calls are open is unknown.
    expect(drained.drain?.finished).toBe(false);
  });

  test('is drained likewise if it is lost within the drain', () => {
    const drained = Drained.opened();
    drained.begin();
    drained.say('client', ANSWER.subarray(0, 5));
    drained.say('server', BROKEN);
    expect(drained.received('client')).toEqual(Buffer.concat([ANNOUNCEMENT, BROKEN]));
    expect(drained.editor?.failure).toBe('frame');
    drained.say('client', ANSWER.subarray(5), headers('client', 3));
    expect(drained.received('client')).toEqual(goAwayFrame(0, 0));
    expect(drained.received('server')).toEqual(Buffer.alloc(0));
    expect(drained.drain?.finished).toBe(false);
  });
});

test('a connection without frames passes unchanged', () => {
  const drained = new Drained();
  drained.say('client', Buffer.from('GET / HTTP/1.1'));
  drained.received('server');
  drained.begin();
  drained.say('server', settingsFrame('settings'), data(1, 3));
  drained.say('client', ANSWER, Buffer.from('anything'));
  expect(drained.received('client')).toEqual(Buffer.concat([settingsFrame('settings'), data(1, 3)]));
  expect(drained.received('server')).toEqual(Buffer.concat([ANSWER, Buffer.from('anything')]));
  expect(drained.drain?.finished).toBe(false);
});

/** The frames of a stream of bytes; throws where it is none. */
function split(bytes: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const end = offset + 9 + bytes.readUIntBE(offset, 3);
    expect(end).toBeLessThanOrEqual(bytes.length);
    frames.push(bytes.subarray(offset, end));
    offset = end;
  }
  return frames;
}

const size = fc.integer({ min: 0, max: 40 });

test('however the bytes are sliced and whenever the drain begins, it adds whole frames and takes its own answer away, no more', () => {
  fc.assert(
    fc.property(
      fc.array(size, { minLength: 1, maxLength: 10 }),
      fc.array(size, { minLength: 1, maxLength: 10 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 30 })),
      fc.nat(300),
      fc.nat(10),
      (up, down, slices, beginAt, answerAfter) => {
        const drained = Drained.opened();
        const upFrames = [headers('client', 1), ...up.map((length) => data(1, length))];
        const answerAt = Math.min(answerAfter, up.length) + 1;
        const client = Buffer.concat([...upFrames.slice(0, answerAt), ANSWER, ...upFrames.slice(answerAt)]);
        const downFrames = [headers('server', 1), ...down.map((length) => data(1, length))];
        // A block in two frames, within which nothing may be put.
        downFrames.push(
          frame(FrameType.headers, Flag.endStream, 1, Buffer.from([0x88])),
          frame(FrameType.continuation, Flag.endHeaders, 1, Buffer.alloc(0)),
        );
        const server = Buffer.concat(downFrames);
        let [sentUp, sentDown] = [0, 0];
        // The client cannot answer before it was asked.
        const answerOffset = Buffer.concat(upFrames.slice(0, answerAt)).length;
        let asked = false;
        const toClient: Buffer[] = [];
        while (sentUp < client.length || sentDown < server.length) {
          if (!drained.drain && (sentUp + sentDown >= beginAt || sentUp >= answerOffset)) drained.begin();
          const length = Number(slices.next().value);
          const mayGoUp = asked ? client.length : answerOffset;
          const upEnd = Math.min(sentUp + length, mayGoUp);
          if (sentUp < upEnd) drained.say('client', client.subarray(sentUp, upEnd));
          sentUp = Math.max(sentUp, upEnd);
          const downEnd = Math.min(sentDown + length, server.length);
          // The answer's headers come after the request's.
          if (sentUp >= 10 && sentDown < downEnd) {
            drained.say('server', server.subarray(sentDown, downEnd));
            sentDown = downEnd;
          }
          toClient.push(drained.received('client'));
          asked ||= Buffer.concat(toClient).includes(ANNOUNCEMENT);
        }
        expect(drained.editor?.failure).toBeUndefined();
        expect(drained.received('server')).toEqual(Buffer.concat(upFrames));
        const got = split(Buffer.concat(toClient));
        const own = [...split(ANNOUNCEMENT), goAwayFrame(1, 0)];
        const isOwn = (one: Buffer): boolean => own.some((mine) => mine.equals(one));
        expect(got.filter(isOwn)).toEqual(own);
        expect(Buffer.concat(got.filter((one) => !isOwn(one)))).toEqual(server);
        const at = got.findIndex((one) => one[3] === FrameType.continuation);
        expect(got[at - 1]?.[3]).toBe(FrameType.headers);
      },
    ),
  );
});
