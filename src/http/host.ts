import { isIPv6 } from 'node:net';

/** Labels of unreserved characters (RFC 3986 section 2.3). Names with other characters are valid there, but no host has one. */
const NAME = /^[\w~-]+(?:\.[\w~-]+)*\.?$/u;

const MAX_HOST_LENGTH = 255;

/** `host [ ":" port ]`: RFC 9110 section 7.2, whose port may be empty. */
const HOST_AND_PORT = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{0,5}))?$/u;

/** Whether this is a valid value of Host, or of `:authority`: a name, an IPv4 address, or an IPv6 address in brackets; and a port. */
export function isHost(text: string): boolean {
  const match = HOST_AND_PORT.exec(text);
  if (!match) return false;
  const [, literal, name = '', port = ''] = match;
  if (Number(port) > 65_535) return false;
  // A zone has a meaning only on the machine that it comes from.
  if (literal !== undefined) return isIPv6(literal) && !literal.includes('%');
  return name.length <= MAX_HOST_LENGTH && NAME.test(name);
}
