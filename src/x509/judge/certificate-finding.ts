import type { KeyObject } from 'node:crypto';

import type { CertificateFacts } from '../certificate-facts.js';
import type { Certificate } from '../certificate.js';

/** What can be wrong with a certificate, its chain or its files; stable, for programs. */
export type FindingId =
  // names
  | 'no_subject_alternative_name'
  | 'name_mismatch'
  | 'ip_address_as_dns_name'
  // validity
  | 'not_yet_valid'
  | 'expired'
  | 'expires_soon'
  // what it may be used for
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

/** One thing wrong, and what to do about it. */
export interface CertificateFinding {
  readonly id: FindingId;
  /** `error`: a peer that must accept it will not. `warning`: it works, for some or for now. */
  readonly severity: 'error' | 'warning';
  /** What is wrong; no capital, no full stop. */
  readonly sentence: string;
  /** What to do; no capital, no full stop. */
  readonly cure: string;
}

/**
 * What a certificate is for. `gitaly` is a server's that is a client's too: Gitaly presents its server certificate to
 * GitLab's internal API. `authority` signs others.
 */
export type CertificateRole = 'server' | 'client' | 'gitaly' | 'authority';

/** A certificate with all that is judged of it. */
export interface Judged {
  readonly x509: Certificate;
  readonly publicKey: KeyObject;
  readonly facts: CertificateFacts;
  /** How a sentence calls it: `the certificate`, or `the certificate of CN=…` where there are several. */
  readonly name: string;
}

export function error(id: FindingId, sentence: string, cure: string): CertificateFinding {
  return { id, severity: 'error', sentence, cure };
}

export function warning(id: FindingId, sentence: string, cure: string): CertificateFinding {
  return { id, severity: 'warning', sentence, cure };
}

/** A finding as one text for a log or a list of problems. */
export function sentenceWithCure({ sentence, cure }: CertificateFinding): string {
  return `${sentence}; ${cure}`;
}
