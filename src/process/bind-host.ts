import { lookup, type LookupAddress } from 'node:dns';
import { isIP, type AddressInfo, type ListenOptions, type Server } from 'node:net';

import { codeOf } from '../error-codes.js';
import { MAX_PORT_ATTEMPTS, RESOLVE_MS } from '../limits.js';

/** Servers that listen on all addresses of a host, on the same port. */
export interface BoundHost<T> {
  /** At least one. */
  readonly servers: readonly T[];
  /** Addresses of the name that this machine does not have. */
  readonly absent: readonly string[];
}

/** The name that every machine has for itself (RFC 6761). Go, and therefore Gitaly, listens on 127.0.0.1 for it. */
const LOCALHOST = 'localhost';

/** Error codes for an address that the machine does not have, or whose address family is disabled. */
const ABSENT: ReadonlySet<string> = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/**
 * Resolves the host of a listener to its addresses, without duplicates. An IP address, or an empty host (every interface),
 * resolves to itself.
 * @throws the error of the lookup, or a timeout error
 */
export async function addressesOf(host: string): Promise<string[]> {
  if (host === '' || isIP(host) !== 0) return [host];
  let found: string[];
  try {
    found = (await lookupWithin(host)).map(({ address }) => address);
  } catch (error) {
    if (host !== LOCALHOST) throw error;
    found = ['::1'];
  }
  if (host === LOCALHOST && !found.some((address) => isIP(address) === 4)) found.push('127.0.0.1');
  return [...new Set(found)];
}

/** @throws the error of the lookup, or a timeout error */
function lookupWithin(host: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`the name was not resolved within ${RESOLVE_MS / 1000} s`)),
      RESOLVE_MS,
    );
    lookup(host, { all: true }, (error, addresses) => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve(addresses);
    });
  });
}

/**
 * Listens on every address of a host. Port 0 becomes the same free port on each. An address that this machine does not have is
 * skipped, unless all of them are.
 * @throws the system's error; in that case nothing is bound
 */
export async function bindHost<T extends Server>(
  { host, port }: { readonly host: string; readonly port: number },
  bind: (options: ListenOptions) => Promise<T>,
): Promise<BoundHost<T>> {
  const addresses = await addressesOf(host);
  for (let attempt = 1; ; attempt++) {
    try {
      return await bindAll(addresses, port, bind);
    } catch (error) {
      // The port that was free on the first address is in use on another one.
      if (port !== 0 || addresses.length === 1 || codeOf(error) !== 'EADDRINUSE') throw error;
      if (attempt === MAX_PORT_ATTEMPTS) throw error;
    }
  }
}

async function bindAll<T extends Server>(
  addresses: readonly string[],
  wanted: number,
  bind: (options: ListenOptions) => Promise<T>,
): Promise<BoundHost<T>> {
  const servers: T[] = [];
  const absent: string[] = [];
  try {
    for (const address of addresses) {
      const port = servers[0] ? portOf(servers[0]) : wanted;
      try {
        servers.push(await bind({ host: address, port, ipv6Only: addresses.length > 1 }));
      } catch (error) {
        const isLast = absent.length === addresses.length - 1;
        if (isLast || !ABSENT.has(codeOf(error))) throw error;
        absent.push(address);
      }
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return { servers, absent };
}

/** The port that a server is bound to. */
export function portOf(server: Server): number {
  const bound: AddressInfo | string | null = server.address();
  return bound !== null && typeof bound !== 'string' ? bound.port : 0;
}
