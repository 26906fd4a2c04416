import type { CallContext, CallEnd, GrpcCall } from '../../inspect/grpc/call.js';
import { RateBucket } from '../../inspect/rate-bucket.js';
import {
  FAILED_CALL_LINES,
  LEFT_OUT_LINES_MS,
  MAX_CUT_CALL_LINES,
  MAX_METHOD_LOGGERS,
} from '../../limits.js';
import type { MethodCounts } from './method-table.js';
import type { LevelLogger } from '../logger.js';
import { methodFields, type RpcLog } from './rpc-log.js';

/** A logger that has the fields of a method, for one direction. */
interface MethodLogger {
  readonly direction: CallContext['direction'];
  readonly logger: LevelLogger;
}

/** The log lines of one connection's calls. The number of lines for failed calls is limited; the rest are counted. */
export class CallLines {
  readonly #log: RpcLog;
  readonly #peer: LevelLogger;
  /** Created with the first line. */
  #methods: Map<MethodCounts, MethodLogger> | undefined;
  readonly #failed = new RateBucket(FAILED_CALL_LINES);
  #cut = 0;
  #leftOut = 0;

  /** `peer`: logs with the fields of the connection. */
  constructor(log: RpcLog, peer: LevelLogger) {
    this.#log = log;
    this.#peer = peer;
  }

  ended(call: GrpcCall, method: MethodCounts, end: CallEnd): void {
    if (!this.#log.isWanted(call, end)) return;
    if (this.#hasRoom(end)) {
      this.#log.ended(call, method, end, this.#loggerOf(call, method));
      return;
    }
    if (this.#leftOut++ > 0) return;
    const tell = (): void => {
      this.#log.leftOut(this.#leftOut, this.#peer);
      this.#leftOut = 0;
    };
    // All open calls end with their connection, in one turn of the event loop.
    if (end.by === 'connection') setImmediate(tell);
    else setTimeout(tell, LEFT_OUT_LINES_MS);
  }

  #loggerOf(call: GrpcCall, method: MethodCounts): LevelLogger {
    const { protocol, direction } = call.context;
    const methods = (this.#methods ??= new Map<MethodCounts, MethodLogger>());
    const known = methods.get(method);
    if (known?.direction === direction) return known.logger;
    const fields = methodFields(call, method);
    const logger = this.#peer.child({ protocol, direction, ...fields });
    // Methods without a label of their own share their counts, and each has its own name.
    if (method.service === fields['grpc.service'] && method.method === fields['grpc.method']) {
      if (methods.size >= MAX_METHOD_LOGGERS) methods.clear();
      methods.set(method, { direction, logger });
    }
    return logger;
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
