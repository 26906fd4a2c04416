/** Normalises a name for comparison: lower case (RFC 4343), without the trailing dot of the root, which only resolvers use. */
export function normalServerName(name: string): string {
  return name.toLowerCase().replace(/\.$/u, '');
}

/**
 * The patterns in a certificate or configuration that match a name, the most specific first. RFC 6125 section 6.4: the name
 * itself, then a wildcard for its whole leftmost label. A wildcard matches exactly one label, so there is only one.
 */
export function namesFor(serverName: string): string[] {
  const name = normalServerName(serverName);
  const dot = name.indexOf('.');
  return dot > 0 ? [name, `*${name.slice(dot)}`] : [name];
}
