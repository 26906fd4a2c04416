/** A name as it is compared: in lower case (RFC 4343), without the dot of the root, which only resolvers know. */
export function normalServerName(name: string): string {
  return name.toLowerCase().replace(/\.$/u, '');
}

/**
 * What stands for a name in a certificate or in a configuration, the best first. RFC 6125 section 6.4: the name itself, then
 * a wildcard for its whole leftmost label. That is one label and no more, so no second wildcard can stand for it.
 */
export function namesFor(serverName: string): string[] {
  const name = normalServerName(serverName);
  const dot = name.indexOf('.');
  return dot > 0 ? [name, `*${name.slice(dot)}`] : [name];
}
