import { BlockList, isIP, isIPv6 } from 'node:net';
import { parsed, refused, type Parsed } from './parsed.js';

/**
 * Parses a network in CIDR notation. An IP address alone is a network of one address (`/32`, `/128`).
 *
 * @returns the network as `address/prefix`, whose parts `net.BlockList#addSubnet` accepts.
 */
export function parseCidr(text: string): Parsed<string> {
  const [address = '', prefix, ...more] = text.split('/');
  const family = address.includes('%') ? 0 : isIP(address);
  if (family === 0 || more.length > 0) {
    return refused('expected a network such as "10.0.0.0/8", "2001:db8::/32" or an IP address');
  }
  const bits = family === 4 ? 32 : 128;
  const length = prefix === undefined ? bits : /^[0-9]{1,3}$/u.test(prefix) ? Number(prefix) : NaN;
  if (!(length <= bits)) {
    return refused(
      `the prefix length of an IPv${family} network must be 0 to ${bits}, for example ${address}/${bits}`,
    );
  }
  // Connections are matched by BlockList, so a network that it does not accept must fail here, not at the first connection.
  new BlockList().addSubnet(address, length, family === 4 ? 'ipv4' : 'ipv6');
  return parsed(`${address}/${length}`);
}

/** Returns a function that matches addresses against these networks. `undefined`, the address of a unix socket, never matches. */
export function networkCheck(networks: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix] = network.split('/');
    const family = isIPv6(address) ? 'ipv6' : 'ipv4';
    list.addSubnet(address, Number(prefix ?? (family === 'ipv6' ? 128 : 32)), family);
  }
  if (networks.length === 0) return () => false;
  return (address) => address !== undefined && list.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}
