import type { X509Certificate } from 'node:crypto';

import { certificateFacts } from '../certificate-facts.js';
import { certificateNames } from '../certificate-names.js';
import { followChain, judgeIssuers, judgeTrust } from './chain.js';
import { error, subjectOf, type CertificateRole, type Finding, type Judged } from './finding.js';
import { judgeNames } from './names.js';
import { judgeStrength } from './strength.js';
import { judgeUsage } from './usage.js';
import { judgeValidity } from './validity.js';

/** What a chain is judged for. */
export interface ChainQuestion {
  readonly role: CertificateRole;
  /** The name or IP address that clients use, where it is known; for servers. */
  readonly serverName?: string | undefined;
  /** The authorities that the other side trusts; left out, whether it is trusted is not judged. */
  readonly trust?: readonly X509Certificate[] | undefined;
  readonly now: Date;
}

/**
 * All that is wrong with a chain for its job, without a peer and without a file: names, validity, usages, strength, order,
 * issuers and, if asked, trust. What is wrong with the leaf comes first.
 *
 * @param chain - as a file holds it, or a server sends it: the leaf first.
 */
export function judgeChain(chain: readonly X509Certificate[], question: ChainQuestion): Finding[] {
  const findings: Finding[] = [];
  const { now } = question;
  const [first, ...others] = read(chain, findings);
  if (first === undefined) {
    if (findings.length > 0) return findings;
    return [
      error('empty_chain', 'there is no certificate', 'present one, the leaf first, then its intermediates'),
    ];
  }
  const { path, findings: order } = followChain([first, ...others]);
  const [leaf = first] = path;
  findings.push(...judgeLeaf(leaf, question), ...order, ...judgeIssuers(path, now));
  if (question.trust) findings.push(...judgeTrust(path, read(question.trust, [])));
  return findings;
}

/** The findings of `judgeChain`, by whether they can be mended by a client that knows another way to an authority. */
export function judgeForServing(
  chain: readonly X509Certificate[],
  question: Pick<ChainQuestion, 'role' | 'now'>,
): { readonly leaf: readonly Finding[]; readonly chain: readonly Finding[] } {
  const broken: Finding[] = [];
  const [leaf, ...others] = read(chain, broken);
  if (leaf === undefined || broken.length > 0) return { leaf: broken, chain: [] };
  const { path, findings } = followChain([leaf, ...others]);
  return { leaf: judgeLeaf(leaf, question), chain: [...findings, ...judgeIssuers(path, question.now)] };
}

function judgeLeaf(leaf: Judged, { role, serverName, now }: ChainQuestion): Finding[] {
  return [
    ...(role === 'server' || role === 'gitaly' ? judgeNames(leaf, serverName) : []),
    ...judgeValidity(leaf, now),
    ...judgeUsage(leaf, role),
    ...judgeStrength(leaf),
  ];
}

/**
 * What a certificate is for, as far as it tells itself; one that is for servers may be Gitaly's. `openssl req -x509` makes
 * authorities of all: one that is named as a host, and does not say that it signs certificates, is a server's.
 */
export function likelyRole(x509: X509Certificate): CertificateRole {
  try {
    const { authority, keyUsage, extendedKeyUsage: usages } = certificateFacts(x509);
    if (usages?.includes('clientAuth') === true && !usages.includes('serverAuth')) return 'client';
    if (!authority || usages?.includes('serverAuth') === true) return 'gitaly';
    if (keyUsage?.includes('keyCertSign') === true) return 'authority';
    const { dns, ip } = certificateNames(x509);
    const isHost =
      dns.length + ip.length > 0 || /^CN=[\w*-]+(\.[\w-]+)+$|^CN=localhost$/mu.test(x509.subject);
    return isHost ? 'gitaly' : 'authority';
  } catch {
    return 'gitaly';
  }
}

function read(chain: readonly X509Certificate[], findings: Finding[]): Judged[] {
  return chain.flatMap((x509, index) => {
    const name = index === 0 ? 'the certificate' : `the certificate of ${subjectOf(x509)}`;
    try {
      // Both throw for what they do not know: a key of a rare kind, an extension that is cut off.
      return [{ x509, publicKey: x509.publicKey, facts: certificateFacts(x509), name }];
    } catch (reason) {
      findings.push(
        error(
          'broken_certificate',
          `${name} has a part that cannot be read (${reason instanceof Error ? reason.message : String(reason)})`,
          'have it issued again',
        ),
      );
      return [];
    }
  });
}
