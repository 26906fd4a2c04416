import type { CallContext, CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import { RateBucket } from '../../inspect/rate-bucket.js';
import {
  FAILED_CALL_LINES,
  LEFT_OUT_LINES_MS,
  MAX_CUT_CALL_LINES,
  MAX_METHOD_LOGGERS,
} from '../../limits.js';
import type { MethodCounts } from './method-table.js';
import { namesOf, type LogCall, type RpcLog, type RpcPeer } from './rpc-log.js';

/** How the calls to a method are logged, in one direction. */
interface MethodLog {
  readonly direction: CallContext['direction'];
  readonly log: LogCall;
}

/** The log lines of one connection's calls. The number of lines for failed calls is limited; the rest are counted. */
export class CallLines {
  readonly #log: RpcLog;
  readonly #peer: RpcPeer;
  readonly #admits: (reason: string) => boolean;
  /** Created with the first line. */
  #methods: Map<MethodCounts, MethodLog> | undefined;
  readonly #failed = new RateBucket(FAILED_CALL_LINES);
  #cut = 0;
  #leftOut = 0;

  /** @param admits - whether a line about this client may be written now; suppressed lines are counted by their reason */
  constructor(log: RpcLog, peer: RpcPeer, admits: (reason: string) => boolean) {
    this.#log = log;
    this.#peer = peer;
    this.#admits = admits;
  }

  ended(call: GrpcCall, method: MethodCounts, end: CallEnd): void {
    if (!this.#log.isWanted(call, end)) return;
    if (this.#hasRoom(end)) {
      if (!this.#admits(end.code)) return;
      this.#log.ended(call, method, end, this.#logOf(call, method));
      return;
    }
    if (this.#leftOut++ > 0) return;
    const tell = (): void => {
      if (this.#admits('lines suppressed')) this.#log.leftOut(this.#leftOut, this.#peer);
      this.#leftOut = 0;
    };
    // All open calls end with their connection, in one turn of the event loop.
    if (end.by === 'connection') setImmediate(tell);
    else setTimeout(tell, LEFT_OUT_LINES_MS);
  }

  #logOf(call: GrpcCall, method: MethodCounts): LogCall {
    const { direction } = call.context;
    const methods = (this.#methods ??= new Map<MethodCounts, MethodLog>());
    const known = methods.get(method);
    if (known?.direction === direction) return known.log;
    const log = this.#log.logCallsOf(call, method, this.#peer);
    const [service, name] = namesOf(call);
    // Methods without a label of their own share one `MethodCounts`, but each has its own name in the log.
    if (method.service === service && method.method === name) {
      if (methods.size >= MAX_METHOD_LOGGERS) methods.clear();
      methods.set(method, { direction, log });
    }
    return log;
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
