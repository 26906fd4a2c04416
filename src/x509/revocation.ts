import { createHash, type KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';

import { CRL_WARN_BEFORE_MS } from '../limits.js';
import type { FileSetting, Problem } from '../config/model.js';
import { describeSubject } from './certificate-names.js';
import { attempt } from './certificate-pair.js';
import { nameKey } from './distinguished-name.js';
import { FileProblem, readSettingFile } from './pem-files.js';
import { readRevocationList, type RevocationList } from './revocation-list.js';
import type { TrustAnchors } from './trust.js';

/** The certificate revocation lists in use: the newest of each issuer. */
export interface RevocationLists {
  readonly lists: readonly RevocationList[];
  /** In the same order. */
  readonly pem: readonly string[];
  /** The earliest `nextUpdate`: after it OpenSSL refuses the clients of that issuer (`CRL_HAS_EXPIRED`). */
  readonly nextUpdate: Date | undefined;
}

/** A list with its PEM text. */
interface PemList {
  readonly pem: string;
  readonly list: RevocationList;
}

interface SignedList extends PemList {
  /** Distinguishes keys of the same name, as far as possible without the certificate of the CA. */
  readonly signer: string;
}

const CRL_BLOCK = /-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g;
/**
 * Reads the CRLs of a file. A CRL that is out of date is used nevertheless: OpenSSL refuses the clients of its issuer, and only
 * those.
 *
 * @param anchors - the CAs that must have signed the lists in their names.
 */
export async function loadRevocations(
  setting: FileSetting,
  now: Date,
  problems: Problem[],
  anchors: TrustAnchors = [],
): Promise<RevocationLists | undefined> {
  const found: Problem[] = [];
  const report = (severity: Problem['severity'], message: string): void => {
    found.push({ severity, key: setting.key, message: `${setting.path}: ${message}`, value: setting.path });
  };
  const loaded = await attempt(async () => parseLists(setting.path, await readSettingFile(setting.path)));
  if (loaded instanceof FileProblem) {
    problems.push({ severity: 'error', key: setting.key, message: loaded.message, value: setting.path });
    return undefined;
  }
  for (const { list } of loaded) {
    if (list.objection !== undefined)
      report('error', `the CRL of ${list.issuer.text} ${list.objection}; use a complete CRL of this CA`);
  }
  const used = newestOfEach(signedLists(loaded, anchors, report));
  for (const { list } of used) warnInTime(list, now, report);
  for (const { x509 } of withoutRoot(anchors)) {
    report(
      'warning',
      `the clients of ${describeSubject(x509)} are refused: it is not self-signed and its issuer is not in client_ca_path, ` +
        'but with a CRL, OpenSSL verifies each chain up to a self-signed CA; add that CA and its CRL',
    );
  }
  problems.push(...found);
  if (found.some(({ severity }) => severity === 'error')) return undefined;
  const dates = used.flatMap(({ list }) => list.nextUpdate?.getTime() ?? []);
  return {
    lists: used.map(({ list }) => list),
    pem: used.map(({ pem }) => pem),
    nextUpdate: dates.length > 0 ? new Date(Math.min(...dates)) : undefined,
  };
}

/** Trust anchors that do not chain to a self-signed one. */
function withoutRoot(anchors: TrustAnchors): TrustAnchors {
  const rooted = new Set(anchors.filter(({ x509 }) => x509.subject === x509.issuer));
  for (let before = -1; before < rooted.size;) {
    before = rooted.size;
    for (const anchor of anchors)
      if ([...rooted].some(({ x509 }) => x509.subject === anchor.x509.issuer)) rooted.add(anchor);
  }
  return anchors.filter((anchor) => !rooted.has(anchor));
}

function warnInTime({ issuer, nextUpdate }: RevocationList, now: Date, report: Report): void {
  const leftMs = (nextUpdate?.getTime() ?? Number.POSITIVE_INFINITY) - now.getTime();
  if (nextUpdate === undefined || leftMs <= 0 || leftMs >= CRL_WARN_BEFORE_MS) return;
  report(
    'warning',
    `the CRL of ${issuer.text} must be replaced before ${nextUpdate.toISOString()}; after that the clients of this CA are refused`,
  );
}

type Report = (severity: Problem['severity'], message: string) => void;

/** Removes lists that the CA with their issuer name has not signed. One such list makes OpenSSL refuse all clients of that CA. */
function signedLists(loaded: readonly PemList[], anchors: TrustAnchors, report: Report): SignedList[] {
  const keysOf = new Map<string, KeyObject[]>();
  for (const { x509 } of anchors) {
    const key = nameKey(x509.subjectName);
    keysOf.set(key, [...(keysOf.get(key) ?? []), x509.publicKey]);
  }
  const signed: SignedList[] = [];
  const unsigned: RevocationList[] = [];
  for (const { pem, list } of loaded) {
    const keys = keysOf.get(list.issuer.key);
    const signer = keys?.find((key) => list.isSignedBy(key) !== false);
    if (keys && !signer) unsigned.push(list);
    else signed.push({ pem, list, signer: signer ? fingerprint(signer) : (list.authorityKeyId ?? '') });
  }
  for (const { issuer } of unsigned) {
    const hasAnother = signed.some(({ list }) => list.issuer.key === issuer.key);
    report(
      hasAnother ? 'warning' : 'error',
      `the CRL of ${issuer.text} is not signed by the CA of that name in client_ca_path; ` +
        (hasAnother ? 'it is not used, another one is' : 'use the CRL that this CA has signed'),
    );
  }
  return signed;
}

function fingerprint(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

/**
 * The newest list of each issuer, key and scope. With more lists, OpenSSL may use an older one after the newest has expired,
 * and would then admit a client that was revoked in between.
 */
function newestOfEach(signed: readonly SignedList[]): SignedList[] {
  const isSuperseded = (each: SignedList, index: number): boolean =>
    signed.some(
      (other, at) =>
        other.list.issuer.key === each.list.issuer.key &&
        other.signer === each.signer &&
        // A complete list replaces one of limited scope, but not the other way round.
        (other.list.scope === each.list.scope || other.list.scope === '') &&
        (isOlder(each.list, other.list) || (index < at && !isOlder(other.list, each.list))),
    );
  return signed.filter((each, index) => !isSuperseded(each, index));
}

function isOlder(list: RevocationList, than: RevocationList): boolean {
  const differenceMs = list.thisUpdate.getTime() - than.thisUpdate.getTime();
  return differenceMs === 0 ? (list.number ?? 0n) < (than.number ?? 0n) : differenceMs < 0;
}

function parseLists(path: string, text: string): PemList[] {
  const blocks = text.match(CRL_BLOCK) ?? [];
  // A list that was read while it was being written would refuse every client of its issuer.
  if (text.split('-----BEGIN X509 CRL-----').length - 1 !== blocks.length)
    throw new FileProblem(`${path}: truncated, a certificate revocation list has no END line`);
  if (blocks.length === 0)
    throw new FileProblem(`${path}: contains no certificate revocation list in PEM (X509 CRL)`);
  return blocks.map((pem) => ({ pem, list: parseList(path, pem) }));
}

function parseList(path: string, pem: string): RevocationList {
  try {
    // OpenSSL must be able to parse the complete list, too.
    createSecureContext({ crl: pem });
    return readRevocationList(Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64'));
  } catch {
    throw new FileProblem(`${path}: contains a certificate revocation list that cannot be parsed`);
  }
}
