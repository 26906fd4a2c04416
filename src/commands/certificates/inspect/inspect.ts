import { EXIT_FAILED, type CommandIo } from '../../command-io.js';
import type { NetworkAddress } from '../../../config/model.js';
import { describeSubject } from '../../../x509/certificate-names.js';
import type { Certificate } from '../../../x509/certificate.js';
import {
  error,
  type CertificateRole,
  type CertificateFinding,
} from '../../../x509/judge/certificate-finding.js';
import { LEAF_FIRST } from '../../../x509/judge/build-chain.js';
import { judgeChain, likelyRole } from '../../../x509/judge/judge-chain.js';
import { isIssuedBy } from '../existing-files.js';
import { fetchChain, type Fetched } from './fetch-chain.js';
import type { Place, Inspected, InspectedFile, InspectedServer } from './inspection-report.js';
import { readPath, type ReadFile } from './read-certificates.js';
import { asJson } from './as-json.js';
import { printableJson } from '../../../printable.js';
import { asText } from './as-text.js';

/**
 * `certificates inspect`: shows certificates, keys and servers, and reports each problem.
 * @returns the exit code: 1 if one of the findings is an error
 */
export async function runCertificatesInspect(
  { places, json }: { readonly places: readonly Place[]; readonly json: boolean },
  { now, writeStdout }: Pick<CommandIo, 'now' | 'writeStdout'>,
): Promise<number> {
  const inspected = await inspect(places, now);
  writeStdout(json ? `${printableJson(asJson(inspected, now), 2)}\n` : asText(inspected, now));
  return inspected.some(({ findings }) => findings.some(({ severity }) => severity === 'error'))
    ? EXIT_FAILED
    : 0;
}

/** The content of a place, before it is judged. */
type Read =
  | { readonly kind: 'file'; readonly file: ReadFile; readonly role: CertificateRole | undefined }
  | { readonly kind: 'address'; readonly address: NetworkAddress; readonly fetched: Fetched };

/**
 * Inspects all places together: authorities among the files must have issued the other certificates, and each key must
 * match one of the certificates.
 */
export async function inspect(places: readonly Place[], now: Date): Promise<Inspected[]> {
  const read = (await Promise.all(places.map(readPlace))).flat();
  const leaves = read.flatMap((each) => firstOf(each) ?? []);
  const known = read.map((each) => withAuthority(each, leaves));
  const authorities = known.flatMap((each) =>
    each.kind === 'file' && each.role === 'authority' ? each.file.certificates : [],
  );
  const trust = authorities.length > 0 ? authorities : undefined;
  return known.map((each) => {
    try {
      return each.kind === 'file' ? judgeFile(each, known, trust, now) : judgeServer(each, trust, now);
    } catch (reason) {
      return unjudged(each, reason);
    }
  });
}

/** Any error about one certificate must not prevent the report on the other places. */
function unjudged(read: Read, reason: unknown): Inspected {
  const findings = [
    error(
      'broken_certificate',
      `cannot be checked (${reason instanceof Error ? reason.message : String(reason)})`,
      'issue the certificate again; this is a bug in gitaly-tls-proxy, please report it',
    ),
  ];
  const base = { place: placeOf(read), certificates: [], role: undefined, findings } as const;
  return read.kind === 'file'
    ? { ...base, kind: 'file', key: undefined }
    : { ...base, kind: 'address', tls: undefined };
}

async function readPlace(place: Place): Promise<Read[]> {
  if (place.kind === 'address')
    return [{ kind: 'address', address: place.address, fetched: await fetchChain(place.address) }];
  return (await readPath(place.path)).map((file) => {
    // An authority before the leaf means a chain in the wrong order, not a file of authorities.
    const roles = file.certificates.map(likelyRole);
    return { kind: 'file', file, role: roles.find((role) => role !== 'authority') ?? roles[0] };
  });
}

/** Treats a certificate that has issued one of the others as an authority, whatever it looks like. */
function withAuthority(read: Read, leaves: readonly Certificate[]): Read {
  if (read.kind === 'address') return read;
  const [first, ...others] = read.file.certificates;
  if (first?.ca !== true || others.length > 0) return read;
  const hasIssued = leaves.some(
    (leaf) => leaf.fingerprint256 !== first.fingerprint256 && isIssuedBy(leaf, first),
  );
  return hasIssued ? { ...read, role: 'authority' } : read;
}

function judgeServer(
  { address, fetched }: Read & { readonly kind: 'address' },
  trust: readonly Certificate[] | undefined,
  now: Date,
): InspectedServer {
  const base = { kind: 'address', place: address.url } as const;
  if (!fetched.ok)
    return { ...base, certificates: [], role: undefined, tls: undefined, findings: [fetched.finding] };
  const { certificates, tls } = fetched;
  const findings = judgeChain(certificates, { role: 'gitaly', serverName: address.host, trust, now });
  return { ...base, certificates, role: 'gitaly', tls, findings };
}

function judgeFile(
  { file, role }: Read & { readonly kind: 'file' },
  all: readonly Read[],
  trust: readonly Certificate[] | undefined,
  now: Date,
): InspectedFile {
  const { path, certificates, key } = file;
  const findings = [...file.findings];
  if (role === 'authority') findings.push(...judgeAuthorities(certificates, now));
  else if (role !== undefined) findings.push(...judgeChain(certificates, { role, trust, now }));
  const base = { kind: 'file', place: path, certificates, role } as const;
  if (key === undefined) return { ...base, key: undefined, findings };
  const holders = all.filter((each) => firstOf(each)?.belongsTo(key.object) === true);
  if (holders.length === 0) findings.push(...whoseKey(key, all));
  return { ...base, key: { ...key, belongsTo: holders.map(placeOf) }, findings };
}

/** A file of authorities is not a chain: each certificate is judged alone. */
function judgeAuthorities(certificates: readonly Certificate[], now: Date): CertificateFinding[] {
  return certificates.flatMap((x509) =>
    judgeChain([x509], { role: 'authority', now }).map((finding) =>
      certificates.length === 1
        ? finding
        : { ...finding, sentence: `${describeSubject(x509)}: ${finding.sentence}` },
    ),
  );
}

/** The finding about a key that matches no first certificate; none without a certificate to compare it with. */
function whoseKey({ object }: NonNullable<ReadFile['key']>, all: readonly Read[]): CertificateFinding[] {
  const holders = all.filter((each) => firstOf(each) !== undefined);
  const [holder] = holders;
  if (holder === undefined) return [];
  for (const each of holders) {
    const own = certificatesOf(each).find((x509) => x509.belongsTo(object));
    if (own) {
      return [
        error(
          'key_mismatch',
          `matches ${describeSubject(own)}, which is not the first certificate in ${placeOf(each)}`,
          LEAF_FIRST,
        ),
      ];
    }
  }
  const whose =
    holders.length === 1 ? `the certificate in ${placeOf(holder)}` : 'any of the certificates given';
  return [
    error(
      'key_mismatch',
      `does not match ${whose}`,
      'give the key that the certificate was issued for, or issue a certificate for this key',
    ),
  ];
}

function firstOf(read: Read): Certificate | undefined {
  return certificatesOf(read)[0];
}

function certificatesOf(read: Read): readonly Certificate[] {
  if (read.kind === 'file') return read.file.certificates;
  return read.fetched.ok ? read.fetched.certificates : [];
}

function placeOf(read: Read): string {
  return read.kind === 'file' ? read.file.path : read.address.url;
}
