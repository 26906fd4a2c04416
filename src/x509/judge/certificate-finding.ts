import type { KeyObject } from 'node:crypto';

import type { CertificateFacts } from '../certificate-facts.js';
import type { Certificate } from '../certificate.js';

/** The possible problems of a certificate, its chain or its files. The ids are stable, for use by programs. */
export type FindingId =
  // names
  | 'no_subject_alternative_name'
  | 'name_mismatch'
  | 'ip_address_as_dns_name'
  // validity
  | 'not_yet_valid'
  | 'expired'
  | 'expires_soon'
  // usage
  | 'no_server_usage'
  | 'no_client_usage'
  | 'no_digital_signature'
  | 'no_authority'
  | 'authority_as_leaf'
  | 'contradictory_authority'
  // strength
  | 'weak_signature'
  | 'weak_key'
  | 'unusual_key'
  | 'explicit_curve'
  // chain
  | 'empty_chain'
  | 'chain_order'
  | 'missing_issuer'
  | 'untrusted'
  | 'wrong_issuer'
  | 'issuer_is_no_authority'
  | 'path_too_long'
  | 'name_constraints'
  | 'critical_extension'
  | 'duplicate_certificate'
  | 'unrelated_certificate'
  // the certificate's form
  | 'broken_certificate'
  // files
  | 'unreadable_file'
  | 'not_pem'
  | 'nothing_in_file'
  | 'misplaced_marker'
  | 'key_in_certificate_file'
  | 'key_readable_by_others'
  | 'key_readable_by_group'
  | 'key_mismatch'
  | 'key_unusable'
  // addresses
  | 'unreachable'
  | 'no_tls';

/** A problem and its fix. */
export interface CertificateFinding {
  readonly id: FindingId;
  /** `error`: a peer that must accept the certificate will reject it. `warning`: it works with some peers, or for now. */
  readonly severity: 'error' | 'warning';
  /** The problem, without initial capital and full stop. */
  readonly sentence: string;
  /** The fix, without initial capital and full stop. */
  readonly cure: string;
}

/**
 * The purpose of a certificate. `gitaly`: both server and client, because Gitaly presents its server certificate to GitLab's
 * internal API. `authority`: signs other certificates.
 */
export type CertificateRole = 'server' | 'client' | 'gitaly' | 'authority';

/** A certificate with the parts that are judged. */
export interface Judged {
  readonly x509: Certificate;
  readonly publicKey: KeyObject;
  readonly facts: CertificateFacts;
  /** Its name in a sentence: `the certificate`, or `the certificate of CN=…` if there are several. */
  readonly name: string;
}

export function error(id: FindingId, sentence: string, cure: string): CertificateFinding {
  return { id, severity: 'error', sentence, cure };
}

export function warning(id: FindingId, sentence: string, cure: string): CertificateFinding {
  return { id, severity: 'warning', sentence, cure };
}

/** Formats a finding for a log or a list of problems. */
export function sentenceWithCure({ sentence, cure }: CertificateFinding): string {
  return `${sentence}; ${cure}`;
}
