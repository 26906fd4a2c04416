import { FieldNames } from '../../../src/inspect/hpack/field-names.js';
import { Http2Inspector } from '../../../src/inspect/http2/inspector.js';
import type { Http2Loss } from '../../../src/inspect/http2/side.js';
import type { StreamObserver } from '../../../src/inspect/http2/stream-observer.js';
import type { SendWindows } from '../../../src/inspect/send-window.js';
import type { Sender } from '../../../src/inspect/sender.js';

// Frames as RFC 9113 section 6 has them, with numbers of their own: what the program calls them must not matter here.
export const [DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE] = [0, 1, 2, 3, 4, 5] as const;
export const [PING, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [6, 7, 8, 9] as const;
export const [END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY] = [0x1, 0x1, 0x4, 0x8, 0x20] as const;

export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array | readonly number[] = [],
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, Buffer.from(payload)]);
}

export function uint32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
}

/** SETTINGS of these values by identifier. */
export function settings(...values: readonly (readonly [identifier: number, value: number])[]): Buffer {
  return frame(
    SETTINGS,
    0,
    0,
    Buffer.concat(values.map(([id, value]) => Buffer.concat([Buffer.of(0, id), uint32(value)]))),
  );
}

export const SETTINGS_ACK = frame(SETTINGS, ACK, 0);

/** A header block of literals that leave the table alone (RFC 7541 section 6.2.2). */
export function block(fields: Readonly<Record<string, string>>): Buffer {
  const literals = Object.entries(fields).map(([name, value]) =>
    Buffer.concat([
      Buffer.of(0, name.length),
      Buffer.from(name, 'latin1'),
      Buffer.of(value.length),
      Buffer.from(value, 'latin1'),
    ]),
  );
  return Buffer.concat(literals);
}

/** HEADERS, whole, with these fields. */
export function headers(streamId: number, fields: Readonly<Record<string, string>>, flags = 0): Buffer {
  return frame(HEADERS, END_HEADERS | flags, streamId, block(fields));
}

/** An inspector of a connection whose client has sent its preface, and all that it tells, in words. */
export class Followed {
  /** `stream sender what`; a field `a` is read of header blocks, and only that. */
  readonly told: string[] = [];
  readonly windows = new Map<number, SendWindows>();
  nowMs = 0;
  readonly inspector = new Http2Inspector(new FieldNames(['a']), {
    open: (streamId, windows) => this.#open(streamId, windows),
    release: () => undefined,
  });

  constructor() {
    this.send('client', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'));
  }

  #open(streamId: number, windows: SendWindows): StreamObserver {
    this.windows.set(streamId, windows);
    const tell = (...words: readonly (string | number)[]): void =>
      void this.told.push([streamId, ...words].join(' '));
    return {
      headers: (sender, values) => tell(sender, 'headers', values[1] ?? '-'),
      data: (sender, bytes, start, end) => tell(sender, 'data', bytes.toString('latin1', start, end)),
      ended: (sender) => tell(sender, 'ended'),
      reset: (sender, errorCode) => tell(sender, 'reset', errorCode),
      cut: (why) => tell('cut', why),
    };
  }

  /** The client or server sends this; why it cannot be followed. */
  send(sender: Sender, ...frames: readonly Buffer[]): Http2Loss | undefined {
    const bytes = Buffer.concat(frames);
    return this.inspector.read(sender, bytes, 0, bytes.length, this.nowMs);
  }

  /** What was told since this was asked last. */
  news(): string[] {
    return this.told.splice(0);
  }
}

/** A connection on which these streams are open. */
export function opened(...streamIds: readonly number[]): Followed {
  const followed = new Followed();
  for (const streamId of streamIds) followed.send('client', headers(streamId, {}));
  followed.news();
  return followed;
}
