import { KNOWN_RPCS, type RpcOperation, type RpcType } from './known-rpcs.js';

/** A row of the RPC table. */
export interface Rpc {
  readonly service: string;
  readonly method: string;
  readonly type: RpcType;
  readonly operation: RpcOperation;
  /**
   * The numbers of the fields that lead from the request to its `Repository`: `[1]`, or `[1, 1]` for one within another message.
   * `undefined` if not known.
   */
  readonly repositoryField?: readonly number[] | undefined;
  /** Likewise for the name of its storage, if the request has no repository. */
  readonly storageField?: readonly number[] | undefined;
}

/** The RPCs that are known: the built-in ones, and those of `rpcs_path`, which take precedence. */
export class RpcTable {
  readonly #rpcs = new Map<string, Rpc>();
  readonly #services = new Set<string>();

  constructor(further: readonly Rpc[]) {
    for (const [service, rows] of Object.entries(KNOWN_RPCS))
      for (const [method, type, operation] of rows) this.#add({ service, method, type, operation });
    for (const rpc of further) this.#add(rpc);
  }

  find(service: string, method: string): Rpc | undefined {
    return this.#rpcs.get(`${service}/${method}`);
  }

  hasService(service: string): boolean {
    return this.#services.has(service);
  }

  get services(): Iterable<string> {
    return this.#services;
  }

  /** `service/Method` of each. */
  get names(): Iterable<string> {
    return this.#rpcs.keys();
  }

  get rpcs(): Iterable<Rpc> {
    return this.#rpcs.values();
  }

  #add(rpc: Rpc): void {
    this.#rpcs.set(`${rpc.service}/${rpc.method}`, rpc);
    this.#services.add(rpc.service);
  }
}
