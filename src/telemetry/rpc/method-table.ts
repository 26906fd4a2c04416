import type { StatusCode } from '../../inspect/grpc/grpc-status.js';
import { MAX_LEARNED_METHODS, MAX_METHOD_PATH_LENGTH } from '../../limits.js';
import { DurationCounts } from './duration-counts.js';
import { KNOWN_RPCS, type RpcOperation, type RpcType } from './known-rpcs.js';

/** What is counted of one method, in plain numbers: a scrape reads them, a call costs a few additions. */
export class MethodCounts {
  readonly service: string;
  readonly method: string;
  readonly type: RpcType | 'unknown';
  readonly operation: RpcOperation | 'unknown';
  started = 0;
  received = 0;
  sent = 0;
  /** By status code. */
  readonly handled = new Map<StatusCode, number>();
  readonly durations = new DurationCounts();

  constructor(
    service: string,
    method: string,
    type: RpcType | 'unknown',
    operation: RpcOperation | 'unknown',
  ) {
    this.service = service;
    this.method = method;
    this.type = type;
    this.operation = operation;
  }
}

/** `/package.Service/Method`: letters, digits and underscores, as protobuf names are. */
const PATH = /^\/((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)\/([A-Za-z_]\w*)$/;

/**
 * The methods that have a label of their own: Gitaly's from the start, another one once upstream has answered it as one
 * that exists. All others share one, so that a client that invents methods makes no time series.
 */
export class MethodTable {
  readonly other = new MethodCounts('other', 'other', 'unknown', 'unknown');
  readonly #methods = new Map<string, MethodCounts>();
  #learned = 0;

  constructor() {
    for (const [service, rows] of Object.entries(KNOWN_RPCS)) {
      for (const [method, type, operation] of rows)
        this.#methods.set(`/${service}/${method}`, new MethodCounts(service, method, type, operation));
    }
  }

  /** Every method that has a label, `other` last. */
  *all(): Iterable<MethodCounts> {
    yield* this.#methods.values();
    yield this.other;
  }

  /** Where a call of this `:path` is counted. */
  find(path: string): MethodCounts {
    return this.#methods.get(path) ?? this.other;
  }

  /** Upstream has answered this path with another code than Unimplemented: from now on it has a label. */
  learn(path: string): void {
    if (
      this.#learned >= MAX_LEARNED_METHODS ||
      path.length > MAX_METHOD_PATH_LENGTH ||
      this.#methods.has(path)
    )
      return;
    const [, service, method] = PATH.exec(path) ?? [];
    if (service === undefined || method === undefined) return;
    this.#learned++;
    this.#methods.set(path, new MethodCounts(service, method, 'unknown', 'unknown'));
  }
}
