import type { ServerTls, TrustSource, UpstreamTls } from '../config/model.js';
import { describeSubject } from '../x509/certificate-names.js';
import type { LoadedPair } from '../x509/certificate-pair.js';
import { periodOf, type Dated, type DatedRole, type Period } from '../x509/dated.js';
import { nameKey } from '../x509/distinguished-name.js';
import type { RevocationLists } from '../x509/revocation.js';
import type { TrustAnchors } from '../x509/trust.js';

/** The parts of a listener's material that have dates. */
interface DatedMaterial {
  readonly server:
    | {
        readonly settings: Pick<ServerTls, 'clientCa' | 'clientCrl'>;
        readonly pairs: readonly Pick<LoadedPair, 'dated'>[];
        readonly clientCa: TrustAnchors | undefined;
        readonly revocations: RevocationLists | undefined;
      }
    | undefined;
  readonly upstream:
    | {
        readonly settings: Pick<UpstreamTls, 'ca'>;
        readonly pair: Pick<LoadedPair, 'dated'> | undefined;
        readonly anchors: TrustAnchors | undefined;
      }
    | undefined;
}

/** All certificates and CRLs of a listener that are checked for their dates. */
export function datedOf({ server, upstream }: DatedMaterial): Dated[] {
  const found: Dated[] = [];
  for (const pair of server?.pairs ?? []) found.push(pair.dated);
  if (server?.settings.clientCa)
    found.push(...authorities('client_ca', server.settings.clientCa, server.clientCa ?? []));
  const crl = server?.settings.clientCrl;
  if (crl) {
    for (const { issuer, thisUpdate, nextUpdate } of server.revocations?.lists ?? []) {
      const periods = [{ from: thisUpdate, until: nextUpdate }];
      found.push({ role: 'client_crl', setting: crl, name: `the CRL of ${issuer.text}`, periods });
    }
  }
  if (upstream?.pair) found.push(upstream.pair.dated);
  if (upstream?.settings.ca)
    found.push(...authorities('upstream_ca', upstream.settings.ca, upstream.anchors ?? []));
  return found;
}

/** CAs with the same name count as one: a bundle may contain both the old and the new certificate of a CA. */
function authorities(role: DatedRole, source: TrustSource, anchors: TrustAnchors): Dated[] {
  const [setting] = [...source.files, ...source.directories];
  if (!setting) return [];
  const groups = new Map<string, { name: string; periods: Period[] }>();
  for (const { x509 } of anchors) {
    const key = nameKey(x509.subjectName);
    const group = groups.get(key) ?? {
      name: `the certificate of the CA ${describeSubject(x509)}`,
      periods: [],
    };
    group.periods.push(periodOf(x509));
    groups.set(key, group);
  }
  return [...groups.values()].map((group) => ({ role, setting, ...group }));
}
