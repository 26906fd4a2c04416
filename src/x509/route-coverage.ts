import type { Problem, ServerNameRoute } from '../config/model.js';
import { namesFor } from '../config/server-name.js';
import { describeNames, type CertificateNames } from './certificate-names.js';

/**
 * Warns of names that clients are told apart by and no certificate of the listener holds: who asks for one of these refuses
 * the certificate that it gets.
 */
export function uncoveredRoutes(
  routes: readonly ServerNameRoute[],
  pairs: readonly { readonly names: CertificateNames }[],
): Problem[] {
  const held = pairs.flatMap(({ names }) => names.dns);
  const isCovered = ({ name }: ServerNameRoute): boolean =>
    // A wildcard may stand for a few names, each with a certificate of its own.
    held.some((other) => namesFor(name).includes(other) || namesFor(other).includes(name));
  const known = describeNames({ dns: held, ip: [], uri: [] });
  return routes
    .filter((route) => !isCovered(route))
    .map(({ key, name }) => ({
      severity: 'warning',
      key,
      message: `no certificate of this listener holds the name, so clients that ask for it will refuse the one that they get: add it to \`certificates\` (the names that they hold: ${known})`,
      value: name,
    }));
}
