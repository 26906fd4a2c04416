import { isIP } from 'node:net';

const GROUPS = 8;
/** The first groups of an IPv6 address, 64 bits: one machine or one network may use all addresses that share them. */
const NETWORK_GROUPS = 4;

/**
 * The part of an address that identifies a client's machine or network: an IPv4 address, also if it is mapped into IPv6, or the
 * /64 of an IPv6 address, with the zone of a link-local one. All spellings of an address have the same result.
 *
 * @returns `undefined` for a client without an address, as on a unix socket, and for text that is not an address.
 */
export function sourceNetwork(address: string | undefined): string | undefined {
  if (address === undefined) return undefined;
  const family = isIP(address);
  if (family === 4) return address;
  if (family !== 6) return undefined;
  const [digits = '', zone] = address.split('%');
  const groups = groupsOf(digits);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff)
    return groups
      .slice(6)
      .flatMap((group) => [group >> 8, group & 0xff])
      .join('.');
  const network = groups
    .slice(0, NETWORK_GROUPS)
    .map((group) => group.toString(16))
    .join(':');
  return `${network}::/64${zone === undefined ? '' : `%${zone}`}`;
}

/** The eight numbers of a valid IPv6 address. */
function groupsOf(digits: string): number[] {
  const [head = '', tail] = digits.split('::');
  const before = numbersOf(head);
  if (tail === undefined) return before;
  const after = numbersOf(tail);
  const zeros = Array<number>(GROUPS - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after];
}

function numbersOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}
