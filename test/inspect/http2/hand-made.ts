import { FieldNames } from '../../../src/inspect/hpack/field-names.js';
import { Http2Inspector } from '../../../src/inspect/http2/http2-inspector.js';
import type { Http2Loss } from '../../../src/inspect/http2/http2-side.js';
import type { StreamObserver } from '../../../src/inspect/http2/stream-observer.js';
import type { SendWindows } from '../../../src/inspect/send-window.js';
import type { Sender } from '../../../src/inspect/sender.js';
import { headers } from '../../support/http2-frames.js';

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
