import type { StatusCode } from '../../inspect/grpc/grpc-status.js';
import { MAX_LEARNED_METHODS, MAX_METHOD_PATH_LENGTH } from '../../limits.js';
import { DurationCounts } from './duration-counts.js';
import type { RpcOperation, RpcType } from '../../policy/known-rpcs.js';
import { RpcTable } from '../../policy/rpc-table.js';

/** The counts of one method as plain numbers: a call costs a few additions, and a scrape reads them. */
export class MethodCounts {
  readonly service: string;
  readonly method: string;
  type: RpcType | 'unknown';
  operation: RpcOperation | 'unknown';
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
 * The methods that have a label of their own: those of the RPC table from startup, another one once a response of the upstream shows that
 * it exists. All others share one label, so that a client that makes up methods creates no time series.
 */
export class MethodTable {
  readonly other = new MethodCounts('other', 'other', 'unknown', 'unknown');
  readonly #methods = new Map<string, MethodCounts>();
  #learned = 0;

  constructor() {
    this.configure(new RpcTable([]));
  }

  /** Applies another table of RPCs. Counts are kept, also of methods that it does not have. */
  configure(table: RpcTable): void {
    for (const counts of this.#methods.values())
      if (!table.find(counts.service, counts.method)) counts.type = counts.operation = 'unknown';
    for (const { service, method, type, operation } of table.rpcs) {
      const path = `/${service}/${method}`;
      const known = this.#methods.get(path);
      if (known) [known.type, known.operation] = [type, operation];
      else this.#methods.set(path, new MethodCounts(service, method, type, operation));
    }
  }

  /** Every method that has a label, `other` last. */
  *all(): Iterable<MethodCounts> {
    yield* this.#methods.values();
    yield this.other;
  }

  /** The counts for a call with this `:path`. */
  find(path: string): MethodCounts {
    return this.#methods.get(path) ?? this.other;
  }

  /** Gives a path a label, because the upstream has answered it with a code other than Unimplemented. */
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
