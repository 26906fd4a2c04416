import type { Problem, ServerNameRoute } from '../config/model.js';
import { namesFor } from '../config/server-name.js';
import { describeNames, type CertificateNames } from './certificate-names.js';

/**
 * Warns about names in `forward_by_server_name` that no certificate of the listener has. Clients that request such a name
 * reject the certificate that they receive.
 */
export function uncoveredRoutes(
  routes: readonly ServerNameRoute[],
  pairs: readonly { readonly names: CertificateNames }[],
): Problem[] {
  const held = pairs.flatMap(({ names }) => names.dns);
  const isCovered = ({ name }: ServerNameRoute): boolean =>
    // A wildcard may match several names, each with a certificate of its own.
    held.some((other) => namesFor(name).includes(other) || namesFor(other).includes(name));
  const known = describeNames({ dns: held, ip: [], uri: [] });
  return routes
    .filter((route) => !isCovered(route))
    .map(({ key, name }) => ({
      severity: 'warning',
      key,
      message: `no certificate of this listener has this name, so clients that request it will reject the certificate: add one to \`certificates\` (names in the certificates: ${known})`,
      value: name,
    }));
}
