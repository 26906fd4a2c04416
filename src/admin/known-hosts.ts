import { isIPv6 } from 'node:net';

/** `127.0.0.1`, and the other forms that browsers read as an IPv4 address: `127.1`, `0x7f000001`. No DNS name matches this. */
const IPV4 = /^(?:0x[\da-f]*|\d+)(?:\.(?:0x[\da-f]*|\d+)){0,3}$/u;

/**
 * The hosts for which the admin port answers.
 *
 * By DNS rebinding, a web page makes its own name resolve to this machine and reads the responses. The browser sends that name
 * in `Host`, so a name is accepted only if it is known to be ours. A page cannot use an IP address as its name.
 */
export class KnownHosts {
  readonly #names: ReadonlySet<string>;
  /** The suffixes of wildcard names: `.gitlab.svc` for `*.gitlab.svc`. */
  readonly #suffixes: readonly string[];

  constructor(hosts: readonly string[]) {
    const names = ['localhost', ...hosts.map(normalName)];
    this.#names = new Set(names.filter((name) => name !== '' && !name.startsWith('*.')));
    this.#suffixes = names.filter((name) => name.startsWith('*.')).map((name) => name.slice(1));
  }

  /** Whether `host`, with or without a port, is known. Only HTTP/1.0 clients omit it, and browsers do not use HTTP/1.0. */
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

/** Whether a page of another origin made the request. Browsers send the origin, or `null`, in `Origin`. */
export function isForeignOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return false;
  const [, authority] = /^https?:\/\/([^/?#@]+)$/iu.exec(origin) ?? [];
  return authority === undefined || authority.toLowerCase() !== host?.toLowerCase();
}

function normalName(host: string): string {
  return host.toLowerCase().replace(/\.$/u, '');
}
