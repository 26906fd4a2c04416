import type { CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import { RateBucket } from '../../inspect/rate-bucket.js';
import { FAILED_CALL_LINES, LEFT_OUT_LINES_MS, MAX_CUT_CALL_LINES } from '../../limits.js';
import type { MethodCounts } from './method-table.js';
import type { RpcLog, RpcPeer } from './rpc-log.js';

/** The log lines of one connection's calls. The number of lines for failed calls is limited; the rest are counted. */
export class CallLines {
  readonly #log: RpcLog;
  readonly #peer: RpcPeer;
  readonly #admits: (reason: string) => boolean;
  readonly #failed = new RateBucket(FAILED_CALL_LINES);
  #cut = 0;
  #leftOut = 0;

  /** `admits`: whether a line may be written about this client now; it counts a line that may not be, by its reason. */
  constructor(log: RpcLog, peer: RpcPeer, admits: (reason: string) => boolean) {
    this.#log = log;
    this.#peer = peer;
    this.#admits = admits;
  }

  ended(call: GrpcCall, method: MethodCounts, end: CallEnd): void {
    if (!this.#log.isWanted(call, end)) return;
    if (this.#hasRoom(end)) {
      if (!this.#admits(`call ${end.code}`)) return;
      this.#log.ended(call, method, end, this.#peer);
      return;
    }
    if (this.#leftOut++ > 0) return;
    const tell = (): void => {
      if (this.#admits('calls left out')) this.#log.leftOut(this.#leftOut, this.#peer);
      this.#leftOut = 0;
    };
    // All open calls end with their connection, in one turn of the event loop.
    if (end.by === 'connection') setImmediate(tell);
    else setTimeout(tell, LEFT_OUT_LINES_MS);
  }

  #hasRoom({ code, by, endedAtMs }: CallEnd): boolean {
    if (code === 'OK') return true;
    if (by === 'connection') return ++this.#cut <= MAX_CUT_CALL_LINES;
    const hasRoom = this.#failed.take(1, endedAtMs);
    // A suppressed line does not use up a token for later lines.
    if (!hasRoom) this.#failed.give(1);
    return hasRoom;
  }
}
