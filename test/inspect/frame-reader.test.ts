import { describe, expect, test } from 'vitest';
import fc from 'fast-check';

import { FrameReader, type FrameSink, type PayloadUse } from '../../src/inspect/frame-reader.js';
import { CLIENT_PREFACE, FRAME_HEADER_BYTES } from '../../src/inspect/http2/http2-frame.js';
import { MAX_COLLECTED_FRAME_BYTES } from '../../src/limits.js';
import { frame } from '../support/http2-frames.js';

const FRAMES = { headerBytes: FRAME_HEADER_BYTES, preface: undefined };
const WITH_PREFACE = { headerBytes: FRAME_HEADER_BYTES, preface: CLIENT_PREFACE };

interface Seen {
  readonly header: readonly number[];
  readonly payload: string;
}

/** Notes every frame; frames of even types are collected, of odd ones streamed, of types from 100 skipped. */
class Notes implements FrameSink {
  readonly frames: Seen[] = [];
  payloadBytes = 0;
  #header: readonly number[] = [];
  #streamed: Buffer[] = [];

  header(bytes: Buffer, offset: number): PayloadUse {
    this.payloadBytes = bytes.readUIntBE(offset, 3);
    const type = bytes.readUInt8(offset + 3);
    const header = [this.payloadBytes, type, bytes.readUInt8(offset + 4), bytes.readUInt32BE(offset + 5)];
    this.#header = header;
    if (type >= 100) {
      this.frames.push({ header, payload: 'skipped' });
      return 'skip';
    }
    return type % 2 === 0 ? 'collect' : 'stream';
  }

  part(bytes: Buffer, start: number, end: number, last: boolean): boolean {
    this.#streamed.push(Buffer.from(bytes.subarray(start, end)));
    if (!last) return true;
    this.frames.push({ header: this.#header, payload: Buffer.concat(this.#streamed).toString('hex') });
    this.#streamed = [];
    return true;
  }

  payload(bytes: Buffer, start: number, end: number): boolean {
    this.frames.push({ header: this.#header, payload: bytes.toString('hex', start, end) });
    return true;
  }
}

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Uint8Array;
}

function encode({ type, flags, streamId, payload }: Frame): Buffer {
  return frame(type, flags, streamId, payload);
}

const anyFrame = fc.record({
  type: fc.constantFrom(0, 1, 4, 7, 100, 255),
  flags: fc.nat(255),
  streamId: fc.nat(0x7fff_ffff),
  payload: fc.uint8Array({ maxLength: 40 }),
});

function expectedOf(frames: readonly Frame[]): Seen[] {
  return frames.map(({ type, flags, streamId, payload }) => ({
    header: [payload.length, type, flags, streamId],
    payload: type >= 100 ? 'skipped' : Buffer.from(payload).toString('hex'),
  }));
}

describe('frames', () => {
  test('split at every byte, and one byte at a time, are the same frames', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { minLength: 1, maxLength: 5 }), (frames) => {
        const bytes = Buffer.concat([CLIENT_PREFACE, ...frames.map(encode)]);
        for (let split = 0; split <= bytes.length; split++) {
          const notes = new Notes();
          const reader = new FrameReader(notes, WITH_PREFACE);
          expect(reader.read(bytes, 0, split)).toBe(true);
          expect(reader.read(bytes, split, bytes.length)).toBe(true);
          expect(reader.atBoundary).toBe(true);
          expect(notes.frames).toEqual(expectedOf(frames));
        }
        const notes = new Notes();
        const reader = new FrameReader(notes, WITH_PREFACE);
        for (let offset = 0; offset < bytes.length; offset++) reader.read(bytes, offset, offset + 1);
        expect(notes.frames).toEqual(expectedOf(frames));
      }),
      { numRuns: 50 },
    );
  });

  test('any slicing of any stream of frames gives the same frames, and keeps nothing of what the caller reuses', () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 20 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 50 })),
        (frames, sizes) => {
          const bytes = Buffer.concat(frames.map(encode));
          const notes = new Notes();
          const reader = new FrameReader(notes, FRAMES);
          const shared = Buffer.alloc(64);
          for (let offset = 0; offset < bytes.length;) {
            const size = Number(sizes.next().value);
            const length = bytes.copy(shared, 0, offset, offset + size);
            expect(reader.read(shared, 0, length)).toBe(true);
            shared.fill(0xaa);
            offset += length;
          }
          expect(notes.frames).toEqual(expectedOf(frames));
        },
      ),
    );
  });

  test('atBoundary is true between frames and nowhere else', () => {
    const reader = new FrameReader(new Notes(), FRAMES);
    const bytes = encode({ type: 4, flags: 0, streamId: 0, payload: Buffer.alloc(6) });
    expect(reader.atBoundary).toBe(true);
    for (let offset = 0; offset < bytes.length; offset++) {
      reader.read(bytes, offset, offset + 1);
      expect(reader.atBoundary).toBe(offset === bytes.length - 1);
    }
  });
});

describe('what cannot be followed is lost, for good', () => {
  test('another preface', () => {
    for (let wrong = 0; wrong < CLIENT_PREFACE.length; wrong++) {
      const bytes = Buffer.from(CLIENT_PREFACE);
      bytes[wrong] = (bytes[wrong] ?? 0) ^ 1;
      const reader = new FrameReader(new Notes(), WITH_PREFACE);
      expect(reader.read(bytes, 0, bytes.length)).toBe(false);
      expect(reader.read(CLIENT_PREFACE, 0, CLIENT_PREFACE.length)).toBe(false);
    }
  });

  test('a payload to collect that is larger than the limit, before a byte of it is kept', () => {
    const notes = new Notes();
    const reader = new FrameReader(notes, FRAMES);
    const header = encode({ type: 4, flags: 0, streamId: 1, payload: Buffer.alloc(0) });
    header.writeUIntBE(MAX_COLLECTED_FRAME_BYTES + 1, 0, 3);
    expect(reader.read(header, 0, header.length)).toBe(false);
    expect(notes.frames).toEqual([]);
  });
});
