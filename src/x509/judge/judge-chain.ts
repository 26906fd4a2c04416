import { isIP } from 'node:net';

import { certificateFacts } from '../certificate-facts.js';
import { certificateNames, describeSubject, describeNames, holdsName } from '../certificate-names.js';
import type { Certificate } from '../certificate.js';
import { followChain, leafNotFirst } from './build-chain.js';
import {
  error,
  type CertificateRole,
  type CertificateFinding,
  type FindingId,
  type Judged,
  warning,
} from './certificate-finding.js';
import { judgeCriticalExtensions, judgeStrength } from './judge-strength.js';
import { judgeUsage } from './judge-usage.js';
import { judgeValidity } from './judge-validity.js';

/** The use that a chain is judged for. */
export interface ChainQuestion {
  readonly role: CertificateRole;
  /** For servers: the name or IP address that clients use, if known. */
  readonly serverName?: string | undefined;
  /** The authorities that the peer trusts; if absent, trust is not judged. */
  readonly trust?: readonly Certificate[] | undefined;
  readonly now: Date;
}

/**
 * Finds all problems of a chain for its purpose, without a peer or a file: names, validity, usages, strength, order, issuers
 * and, if requested, trust. Problems of the leaf come first.
 *
 * @param chain - as in a file or as sent by a server: the leaf first.
 */
export function judgeChain(chain: readonly Certificate[], question: ChainQuestion): CertificateFinding[] {
  const findings: CertificateFinding[] = [];
  const [first, ...others] = read(chain, findings);
  if (first === undefined) {
    if (findings.length > 0) return findings;
    return [
      error(
        'empty_chain',
        'the certificate is missing',
        'present one, the leaf first, then its intermediates',
      ),
    ];
  }
  const { path, findings: ofChain } = followChain([first, ...others], { ...question, read: readAnchor });
  const [leaf = first] = path;
  return [...findings, ...judgeLeaf(leaf, question), ...ofChain];
}

/** Go cannot parse such a certificate anywhere in the chain, and aborts the handshake. */
const OF_THE_WHOLE: ReadonlySet<FindingId> = new Set(['explicit_curve']);

/** Clients differ in the critical extensions that they accept, so the finding is reported, but the certificate is served. */
const OF_SOME_CLIENTS: ReadonlySet<FindingId> = new Set(['critical_extension']);

/**
 * The findings of `judgeChain` about the leaf or the whole file, and those that a client may not notice because it knows
 * another path to an authority. For a chain in the wrong order nothing else is reported, because it would concern the wrong
 * certificate.
 */
export function judgeForServing(
  chain: readonly Certificate[],
  question: Pick<ChainQuestion, 'role' | 'now'>,
): { readonly leaf: readonly CertificateFinding[]; readonly chain: readonly CertificateFinding[] } {
  const broken: CertificateFinding[] = [];
  const [leaf, ...others] = read(chain, broken);
  if (leaf === undefined || broken.length > 0) return { leaf: broken, chain: [] };
  const { path, findings } = followChain([leaf, ...others], { ...question, read: readAnchor });
  const [last = leaf] = path;
  if (last !== leaf) return { leaf: [leafNotFirst(leaf, last)], chain: [] };
  const ofLeaf = judgeLeaf(leaf, question);
  return {
    leaf: [
      ...ofLeaf.filter(({ id }) => !OF_SOME_CLIENTS.has(id)),
      ...findings.filter(({ id }) => OF_THE_WHOLE.has(id)),
    ],
    chain: [
      ...ofLeaf.filter(({ id }) => OF_SOME_CLIENTS.has(id)),
      ...findings.filter(({ id }) => !OF_THE_WHOLE.has(id)),
    ],
  };
}

function readAnchor(x509: Certificate): Judged | undefined {
  return readOne(x509, `the certificate of ${describeSubject(x509)}`, []);
}

function judgeLeaf(leaf: Judged, { role, serverName, now }: ChainQuestion): CertificateFinding[] {
  return [
    ...(role === 'server' || role === 'gitaly' ? judgeNames(leaf, serverName) : []),
    ...judgeValidity(leaf, now),
    ...judgeUsage(leaf, role),
    ...judgeStrength(leaf),
    ...judgeCriticalExtensions(leaf, role),
  ];
}

/**
 * Guesses the purpose of a certificate from its content. A certificate for servers may be Gitaly's. `openssl req -x509` makes
 * every certificate an authority, so one that has a host name, and whose key usage does not include keyCertSign, is a server's.
 */
export function likelyRole(x509: Certificate): CertificateRole {
  try {
    const { authority, keyUsage, extendedKeyUsage: usages } = certificateFacts(x509);
    if (usages?.includes('clientAuth') === true && !usages.includes('serverAuth')) return 'client';
    if (!authority || usages?.includes('serverAuth') === true) return 'gitaly';
    if (keyUsage?.includes('keyCertSign') === true) return 'authority';
    const { dns, ip } = certificateNames(x509);
    const isHost =
      dns.length + ip.length > 0 || /^[\w*-]+(\.[\w-]+)+$|^localhost$/u.test(x509.commonName ?? '');
    return isHost ? 'gitaly' : 'authority';
  } catch {
    return 'gitaly';
  }
}

function read(chain: readonly Certificate[], findings: CertificateFinding[]): Judged[] {
  return chain.flatMap((x509, index) => {
    const name = index === 0 ? 'the certificate' : `the certificate of ${describeSubject(x509)}`;
    return readOne(x509, name, findings) ?? [];
  });
}

function readOne(x509: Certificate, name: string, findings: CertificateFinding[]): Judged | undefined {
  try {
    // Both throw for unsupported input: a key of a rare type, a truncated extension.
    return { x509, publicKey: x509.publicKey, facts: certificateFacts(x509), name };
  } catch (reason) {
    findings.push(
      error(
        'broken_certificate',
        `${name} is malformed (${reason instanceof Error ? reason.message : String(reason)})`,
        'have it issued again',
      ),
    );
    return undefined;
  }
}

/**
 * Whether a server's certificate has a name that clients accept and, if known, the name that they use. Gitaly's clients read
 * only the Subject Alternative Names.
 */
function judgeNames({ x509, name }: Judged, serverName: string | undefined): CertificateFinding[] {
  const names = certificateNames(x509);
  if (names.dns.length + names.ip.length === 0) {
    return [
      error(
        'no_subject_alternative_name',
        `${name} has no Subject Alternative Name; Gitaly's clients ignore the Common Name ` +
          '("x509: certificate relies on legacy Common Name field, use SANs instead")',
        'issue one with the host name as SAN',
      ),
    ];
  }
  const findings: CertificateFinding[] = [];
  if (serverName !== undefined && !holdsName(x509, serverName)) {
    findings.push(
      error(
        'name_mismatch',
        `${name} is not valid for ${serverName}; the names that it has: ${describeNames(names)}`,
        `issue one with ${serverName} as SAN, or use one of its names in the address`,
      ),
    );
  }
  const [address] = names.dns.filter((each) => isIP(each) !== 0 && !names.ip.includes(each));
  if (address !== undefined) {
    findings.push(
      warning(
        'ip_address_as_dns_name',
        `${name} has ${address} as a SAN of type DNS, but clients look for IP addresses only in SANs of type IP`,
        `issue one with ${address} as a SAN of type IP`,
      ),
    );
  }
  return findings;
}
