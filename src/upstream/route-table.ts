import type { Address, Forwarding } from '../config/model.js';
import { namesFor } from '../config/server-name.js';

/** Which upstream a client goes to: one look-up for each connection. */
export class RouteTable<Upstream> {
  readonly #byName: ReadonlyMap<string, Upstream>;
  readonly #fallback: Upstream | undefined;

  /** `make` is asked once for each upstream, however many names lead there. */
  constructor({ routes, fallback }: Forwarding, make: (address: Address) => Upstream) {
    const made = new Map<string, Upstream>();
    const upstreamAt = (address: Address): Upstream => {
      const upstream = made.get(address.url) ?? make(address);
      made.set(address.url, upstream);
      return upstream;
    };
    this.#byName = new Map(routes.map(({ name, upstream }) => [name, upstreamAt(upstream)]));
    this.#fallback = fallback && upstreamAt(fallback);
  }

  /** The upstream of all clients, regardless of the name that they request; `undefined` if the name matters. */
  get only(): Upstream | undefined {
    return this.#byName.size === 0 ? this.#fallback : undefined;
  }

  /** The upstream of a client that requests this name, or no name; `undefined` if the client is to be refused. */
  find(serverName: string | undefined): Upstream | undefined {
    if (serverName !== undefined && this.#byName.size > 0) {
      for (const name of namesFor(serverName)) {
        const upstream = this.#byName.get(name);
        if (upstream !== undefined) return upstream;
      }
    }
    return this.#fallback;
  }
}
