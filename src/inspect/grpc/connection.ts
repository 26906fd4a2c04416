import { Http2Inspector } from '../http2/inspector.js';
import type { Http2Failure } from '../http2/side.js';
import type { Sender } from '../sender.js';
import { GrpcCall, type CallContext, type CallEvents } from './call.js';
import { FIELD_NAMES } from './fields.js';

/** Follows the calls of one gRPC connection; `client` is who calls. */
export class GrpcConnection {
  readonly context: CallContext;
  readonly http2: Http2Inspector<GrpcCall>;

  constructor(context: CallContext, events: CallEvents) {
    this.context = context;
    this.http2 = new Http2Inspector(
      FIELD_NAMES,
      (streamId, windows) => new GrpcCall(streamId, context, windows, events),
    );
  }

  /** Calls that have begun and not ended, the oldest first. */
  *calls(): Iterable<GrpcCall> {
    for (const call of this.http2.observers()) if (call.isRunning) yield call;
  }

  /** Reads what an end has sent; why it cannot be followed, and ever after the same. */
  read(sender: Sender, bytes: Buffer, start: number, end: number, nowMs: number): Http2Failure | undefined {
    return this.http2.read(sender, bytes, start, end, nowMs);
  }

  /** The connection has ended, or what carries it cannot be followed. */
  end(why: 'connection' | 'lost', nowMs: number): void {
    this.http2.end(why, nowMs);
  }
}
