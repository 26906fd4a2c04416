import { isAnyPort, isHttpScheme, place } from './address.js';
import { reportError, type BuildContext } from './build-context.js';
import { checkHost } from './host-port.js';
import type { Address, Forwarding, KeyPath, ServerNameRoute } from './model.js';
import { formatKey } from './problem.js';
import type { DraftListener } from './schema.js';
import { normalServerName } from './server-name.js';

/** The key of the upstream for all names without an entry of their own. */
const DEFAULT_KEY = 'default';

/** The distinct upstreams of a listener, by URL, in the order of the configuration. */
export function upstreamsOf({ routes, fallback }: Forwarding): Address[] {
  const all = [...routes.map(({ upstream }) => upstream), ...(fallback ? [fallback] : [])];
  return [...new Map(all.map((address) => [address.url, address])).values()];
}

/** Formats the upstreams on one line for the log: `tcp://127.0.0.1:8075`, or `gitaly-a.internal=tcp://10.0.0.1:8075 default=tcp://10.0.0.9:8075`. */
export function describeForwarding({ routes, fallback }: Forwarding): string {
  if (routes.length === 0) return fallback?.url ?? '';
  const entries = routes.map(({ name, upstream }) => `${name}=${upstream.url}`);
  return [...entries, ...(fallback ? [`${DEFAULT_KEY}=${fallback.url}`] : [])].join(' ');
}

/**
 * Determines the upstreams for the clients of a listener. Problems are reported, and invalid entries are omitted, so that
 * the others can still be validated.
 */
export function buildForwarding(context: BuildContext, listener: DraftListener, key: KeyPath): Forwarding {
  const { forward, forward_by_server_name: byName } = listener;
  const forwardKey = [...key, 'forward'];
  const byNameKey = [...key, 'forward_by_server_name'];
  if (byName === undefined) {
    if (forward === undefined && !context.isBroken(forwardKey) && !context.isBroken(byNameKey)) {
      const message =
        'missing: expected a string such as "tcp://127.0.0.1:8075", or `forward_by_server_name`';
      reportError(context, forwardKey, message);
    }
    reportOwnAddress(context, listener.listen, forward, forwardKey);
    return { routes: [], fallback: forward };
  }
  if (forward !== undefined) {
    const message =
      'cannot be combined with `forward`: remove one of them; its `default` entry has the same effect as `forward`';
    reportError(context, byNameKey, message);
  }
  return buildRoutes(context, listener.listen, byName, byNameKey);
}

function buildRoutes(
  context: BuildContext,
  listen: Address | undefined,
  entries: NonNullable<DraftListener['forward_by_server_name']>,
  key: KeyPath,
): Forwarding {
  if (listen !== undefined && listen.scheme !== 'tls') {
    const why =
      listen.scheme === 'https'
        ? 'requests for several names may share a connection'
        : 'clients send no server name';
    const message = `is for tls:// listeners, but this one listens on ${listen.url}, where ${why}: use \`forward\``;
    reportError(context, key, message);
  }
  if (Object.keys(entries).length === 0 && !context.isBroken(key)) {
    reportError(
      context,
      key,
      'contains no upstream: write for example "gitaly-a.internal: tcp://10.0.0.1:8075"',
    );
  }
  const routes = new Map<string, ServerNameRoute>();
  let fallback: Address | undefined;
  for (const [written, upstream] of Object.entries(entries)) {
    const entryKey = [...key, written];
    if (upstream !== undefined) reportUnfit(context, listen, upstream, entryKey);
    if (written === DEFAULT_KEY) {
      fallback = upstream;
      continue;
    }
    const name = normalServerName(written);
    const fault = nameFault(name);
    const earlier = routes.get(name);
    if (fault !== undefined) reportError(context, entryKey, fault, written);
    else if (earlier !== undefined) {
      const place = formatKey(context.nameKey(earlier.key));
      reportError(context, entryKey, `the same name as ${place}: remove one of them`, written);
    } else if (upstream !== undefined) {
      routes.set(name, { key: context.nameKey(entryKey), name, upstream });
    }
  }
  return { routes: [...routes.values()], fallback };
}

/** Returns the problem of a server name; `undefined` if clients can send this name. */
function nameFault(name: string): string | undefined {
  if (name === DEFAULT_KEY) return 'the entry for all other names is `default`';
  if (name === '*') return 'a `*` matches one label of a longer name: write `default` for all other names';
  const host = name.replace(/^\*\./u, '');
  if (host.includes('*')) return 'a `*` is only allowed as the whole first label: write "*.eu.internal"';
  const withoutPort = /^([^:]+):\d*$/u.exec(host)?.[1];
  if (withoutPort !== undefined) return `a server name must not have a port: write ${withoutPort}`;
  // RFC 6066 section 3: "Literal IPv4 and IPv6 addresses are not permitted in "HostName"."
  if (/^[0-9.]+$/u.test(host) || host.includes(':'))
    return 'a client that dials an IP address sends no server name and uses `default`: write a name such as gitaly-a.internal';
  if (checkHost(host) !== undefined)
    return 'expected a server name such as gitaly-a.internal or "*.eu.internal", or `default`';
  return undefined;
}

function reportUnfit(
  context: BuildContext,
  listen: Address | undefined,
  upstream: Address,
  key: KeyPath,
): void {
  if (isHttpScheme(upstream.scheme)) {
    const message =
      'HTTP cannot be forwarded by server name: write the tcp://, unix:, dns:, tls:// or dns+tls: address of a Gitaly';
    reportError(context, key, message, upstream.url);
  }
  reportOwnAddress(context, listen, upstream, key);
}

function reportOwnAddress(
  context: BuildContext,
  listen: Address | undefined,
  upstream: Address | undefined,
  key: KeyPath,
): void {
  if (listen === undefined || upstream === undefined || isAnyPort(listen)) return;
  if (place(listen) !== place(upstream)) return;
  const message = 'forwards to its own `listen` address: write the address of the server behind it';
  reportError(context, key, message, upstream.url);
}
