import { expect } from 'vitest';

import { startSetup, TLS_LISTENER } from '../setup.js';
import type { Protocol } from './client.js';

/** How a client comes to a server. */
export const WAYS = ['directly', 'through the proxy'] as const;

/** What a client connects to. */
export interface Way {
  /** `tcp://` directly, `tls://` through the proxy. */
  readonly server: URL;
  /** What to trust where it is `tls://`; the server's name is `localhost`. */
  readonly ca: { readonly pem: string; readonly path: string } | undefined;
  /** Expects that the proxy has followed connections of this protocol, so many if it is known, and leaks nothing; ends it. */
  end(protocol: Protocol, connections?: number): Promise<void>;
}

/** Makes it, to a `tcp://` server. */
export async function startWay(way: (typeof WAYS)[number], server: string): Promise<Way> {
  if (way === 'directly') return { server: new URL(server), ca: undefined, end: () => Promise.resolve() };
  const { proxy, ca } = await startSetup({ listener: { forward: server } });
  return {
    server: await proxy.address(TLS_LISTENER),
    ca: { pem: ca.caPem, path: ca.caPath },
    async end(protocol, connections) {
      const scrape = await proxy.scrape();
      const followed = scrape.value('gitaly_tls_proxy_connections_total', { protocol });
      expect(followed).toBe(connections ?? Math.max(followed, 1));
      expect(scrape.value('gitaly_tls_proxy_inspector_lost_total')).toBe(0);
      await proxy.endsWithNothingLeaked();
    },
  };
}
