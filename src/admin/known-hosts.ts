import { isIPv6 } from 'node:net';

/** `127.0.0.1`, and the other forms that browsers read as an IPv4 address: `127.1`, `0x7f000001`. No name looks like this. */
const IPV4 = /^(?:0x[\da-f]*|\d+)(?:\.(?:0x[\da-f]*|\d+)){0,3}$/u;

/**
 * The hosts under which the admin port answers.
 *
 * By DNS rebinding a web page makes its own name resolve to this machine, and reads what it finds there. The browser sends that
 * name in `Host`, so a name is answered only if it is known to be ours. A page cannot choose an IP address as its name.
 */
export class KnownHosts {
  readonly #names: ReadonlySet<string>;
  /** Names of which any label stands in front: `.gitlab.svc` for `*.gitlab.svc`. */
  readonly #suffixes: readonly string[];

  constructor(hosts: readonly string[]) {
    const names = ['localhost', ...hosts.map(normalName)];
    this.#names = new Set(names.filter((name) => name !== '' && !name.startsWith('*.')));
    this.#suffixes = names.filter((name) => name.startsWith('*.')).map((name) => name.slice(1));
  }

  /** Whether `host`, a host with or without a port, is known. Clients of HTTP/1.0, which browsers are not, send none. */
  has(host: string | undefined): boolean {
    if (host === undefined || host === '') return true;
    const [, bracketed, plain = ''] = /^(?:\[([^[\]]*)\]|([^:[\]]*))(?::\d*)?$/u.exec(host) ?? [];
    if (bracketed !== undefined) return isIPv6(bracketed.replace('%25', '%'));
    const name = normalName(plain);
    if (IPV4.test(name) || this.#names.has(name)) return true;
    const dot = name.indexOf('.');
    return dot > 0 && this.#suffixes.includes(name.slice(dot));
  }
}

/** Whether a page of another origin made the request. Browsers name the origin, or `null`, in `Origin`. */
export function isForeignOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return false;
  const [, authority] = /^https?:\/\/([^/?#@]+)$/iu.exec(origin) ?? [];
  return authority === undefined || authority.toLowerCase() !== host?.toLowerCase();
}

function normalName(host: string): string {
  return host.toLowerCase().replace(/\.$/u, '');
}
