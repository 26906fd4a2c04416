import type { CallEnd, GrpcCall } from '../../src/inspect/grpc/call.js';
import { JudgedFields } from '../../src/inspect/grpc/fields.js';
import { FollowedConnection } from '../../src/inspect/grpc/followed-connection.js';
import { Http2Editor } from '../../src/inspect/http2/http2-editor.js';
import { other, type Sender } from '../../src/inspect/sender.js';
import { ABUSE_LIMITS } from '../../src/limits.js';
import type { CallJudge, CallPermit, CallRefusal } from '../../src/policy/call-judge.js';

export const ALLOWED: CallPermit = { kind: 'forward', fields: Buffer.alloc(0) };
export const REFUSED: CallRefusal = { kind: 'refuse', code: 7, message: 'not allowed' };

/** An HTTP/2 connection whose calls are judged, between a client and a server that the test plays. */
export class JudgedConnection {
  readonly followed: FollowedConnection;
  readonly editor: Http2Editor;
  /** How each call ended, by its stream: `PermissionDenied proxy not allowed`. */
  readonly ends = new Map<number, string>();
  readonly started: number[] = [];
  nowMs = 0;
  readonly #out: Record<Sender, Buffer[]> = { client: [], server: [] };

  constructor(judge: CallJudge['judge'], reserved: readonly string[] = []) {
    const events = {
      started: (call: GrpcCall) => {
        this.started.push(call.streamId);
        return {
          moved: () => undefined,
          lost: () => void this.ends.set(call.streamId, 'lost'),
          ended: (end: CallEnd) => void this.ends.set(call.streamId, textOf(end)),
        };
      },
    };
    const judging = { judge: { judge }, fields: new JudgedFields(reserved) };
    const context = { protocol: 'http2', direction: 'to_upstream' } as const;
    this.followed = new FollowedConnection(context, events, ABUSE_LIMITS, undefined, judging);
    const toClient = (bytes: Buffer): void => void this.#out.client.push(bytes);
    this.editor = new Http2Editor(this.followed.http2, toClient, this.followed);
  }

  /** An end sends these bytes, in slices of at most this size. Their memory is used again, as a socket's is. */
  send(sender: Sender, bytes: Buffer, slice = bytes.length): void {
    for (let start = 0; start < bytes.length; start += slice) {
      const chunk = Buffer.from(bytes.subarray(start, start + slice));
      const passed = this.editor.pass(sender, chunk, this.nowMs);
      this.#out[other(sender)].push(Buffer.from(passed));
      chunk.fill(0xee);
    }
  }

  /** The bytes that an end has received since the last call. */
  received(receiver: Sender): Buffer {
    return Buffer.concat(this.#out[receiver].splice(0));
  }
}

function textOf({ code, by, message, answered }: CallEnd): string {
  return [code, by, ...(message ? [message] : []), ...(answered ? ['answered'] : [])].join(' ');
}
