import { isIPv6 } from 'node:net';

import { MAX_HOST_NAME_LENGTH } from '../limits.js';

/** Labels of unreserved characters (RFC 3986 section 2.3). The RFC allows other characters, but no host name contains them. */
const NAME = /^[\w~-]+(?:\.[\w~-]+)*\.?$/u;

/** `host [ ":" port ]`: RFC 9110 section 7.2. The port may be empty. */
const HOST_AND_PORT = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{0,5}))?$/u;

/** Whether the text is a valid Host or `:authority`: a name, an IPv4 address or a bracketed IPv6 address, optionally with a port. */
export function isHost(text: string): boolean {
  const match = HOST_AND_PORT.exec(text);
  if (!match) return false;
  const [, literal, name = '', port = ''] = match;
  if (Number(port) > 65_535) return false;
  // A zone is meaningful only on the machine that assigned it.
  if (literal !== undefined) return isIPv6(literal) && !literal.includes('%');
  return name.length <= MAX_HOST_NAME_LENGTH && NAME.test(name);
}
