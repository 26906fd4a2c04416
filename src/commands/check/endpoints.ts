import { lookup, type LookupAddress } from 'node:dns';
import { isIP } from 'node:net';

import { codeOrMessage } from '../../error-codes.js';
import { formatHostPort } from '../../config/host-port.js';
import type { Address, NetworkAddress } from '../../config/model.js';
import { alternateFamilies } from '../../upstream/happy-eyeballs.js';
import { failed, passed, type CheckFinding } from './check-step.js';

/** An IP address and a port, or a unix socket. */
export interface Endpoint {
  /** `10.0.0.1:9999`, `unix:/var/opt/gitlab/gitaly/gitaly.socket`. */
  readonly title: string;
  readonly address: Address;
}

/** The endpoints of an address that needs no resolution; `undefined` for a name. */
export function literalEndpoint(address: Address): Endpoint | undefined {
  if (address.scheme === 'unix') return { title: address.url, address };
  return isIP(address.host) === 0 ? undefined : endpointAt(address, address.host);
}

/** Resolves a name as Gitaly's clients do: with the system's resolver, including `/etc/hosts`. */
export async function resolveEndpoints(
  address: NetworkAddress,
): Promise<{ readonly finding: CheckFinding; readonly endpoints: readonly Endpoint[] }> {
  const { host } = address;
  try {
    const found = alternateFamilies(await lookUp(host));
    return {
      finding: passed(`${host} resolves to ${found.join(', ')}`, { facts: { addresses: found } }),
      endpoints: found.map((ip) => endpointAt(address, ip)),
    };
  } catch (error) {
    const code = codeOrMessage(error);
    const fix = 'check the name, DNS and /etc/hosts, on this machine and on the GitLab nodes';
    return { finding: failed(`${host} does not resolve (${code})`, fix), endpoints: [] };
  }
}

function endpointAt(address: NetworkAddress, ip: string): Endpoint {
  return {
    title: formatHostPort({ host: ip, port: address.port }),
    address: { ...address, host: ip },
  };
}

function lookUp(host: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookup(host, { all: true, order: 'verbatim' }, (error, addresses) => {
      if (error) reject(error);
      else resolve(addresses);
    });
  });
}
