import type { KeyObject } from 'node:crypto';

import { MAX_RSA_KEY_BITS, MIN_RSA_KEY_BITS } from '../../limits.js';
import type { GeneralName } from '../general-names.js';
import {
  error,
  warning,
  type CertificateRole,
  type CertificateFinding,
  type Judged,
} from './certificate-finding.js';

const ISSUE_INSTEAD = 'issue one with an ECDSA key on P-256, or an RSA key of 2048 to 4096 bits';

/** Curves that all clients of Gitaly accept, by their OpenSSL names. */
const CURVES = ['prime256v1', 'secp384r1'];

/** Whether key and signature are accepted by Gitaly's clients: Go, and gRPC for Ruby with BoringSSL. */
export function judgeStrength({ x509, publicKey, facts, name }: Judged): CertificateFinding[] {
  const findings = facts.explicitCurve ? [explicitCurve(name)] : judgeKey(publicKey, name);
  // The signature of a self-signed certificate is never verified.
  if (/sha1|md5|md2/iu.test(facts.signatureAlgorithm) && !x509.subjectDer.equals(x509.issuerDer)) {
    findings.push(
      error(
        'weak_signature',
        `${name} is signed with ${facts.signatureAlgorithm}, which Go and OpenSSL refuse`,
        'have it issued again, signed with SHA-256',
      ),
    );
  }
  return findings;
}

function explicitCurve(name: string): CertificateFinding {
  return error(
    'explicit_curve',
    `the key of ${name} describes its elliptic curve by explicit parameters, which Go cannot parse`,
    'create a key on a named curve: openssl ecparam -name prime256v1 -genkey -noout',
  );
}

/** Extensions that OpenSSL and Go both process if they are critical. */
const KNOWN_CRITICAL: ReadonlySet<string> = new Set([
  '2.5.29.15', // key usage
  '2.5.29.17', // subject alternative name
  '2.5.29.19', // basic constraints
  '2.5.29.30', // name constraints
  '2.5.29.31', // CRL distribution points
  '2.5.29.32', // certificate policies
  '2.5.29.33', // policy mappings
  '2.5.29.36', // policy constraints
  '2.5.29.37', // extended key usage
  '2.5.29.54', // inhibit anyPolicy
]);

/** Names of extensions that are made critical by mistake; other extensions are shown by their OID. */
const EXTENSION_NAMES: Readonly<Record<string, string>> = {
  '2.5.29.14': 'subject key identifier',
  '2.5.29.18': 'issuer alternative name',
  '2.5.29.35': 'authority key identifier',
  '1.3.6.1.5.5.7.1.1': 'authority information access',
  '1.3.6.1.5.5.7.1.24': 'TLS feature (must-staple)',
};

/** Whether verifiers know all critical extensions, as RFC 5280 section 4.2 requires before they accept a certificate. */
export function judgeCriticalExtensions(
  { facts, name }: Judged,
  role: CertificateRole,
): CertificateFinding[] {
  const findings = facts.criticalExtensions
    .filter((id) => !KNOWN_CRITICAL.has(id))
    .map((id) =>
      error(
        'critical_extension',
        `${name} has the critical extension ${Object.hasOwn(EXTENSION_NAMES, id) ? `${EXTENSION_NAMES[id] ?? ''} (${id})` : id}, ` +
          'which Go and OpenSSL do not accept as critical',
        'have it issued without this extension, or with it not critical',
      ),
    );
  const { permitted = [], excluded = [] } = facts.nameConstraints ?? {};
  const isUnknownToGo = [...permitted, ...excluded].some(({ kind }) => !GO_CONSTRAINTS.has(kind));
  // Client certificates are verified by this program and by others that use OpenSSL.
  if (role !== 'client' && isUnknownToGo && facts.criticalExtensions.includes('2.5.29.30')) {
    findings.push(
      error(
        'critical_extension',
        `${name} has critical name constraints on directory names or on names of another kind, which Go does not support`,
        'have the authority issued with constraints on only DNS names, IP addresses, URIs or mail addresses',
      ),
    );
  }
  return findings;
}

/** The kinds that Go supports: crypto/x509, parseNameConstraintsExtension. */
const GO_CONSTRAINTS: ReadonlySet<GeneralName['kind']> = new Set(['dns', 'ip', 'uri', 'email']);

/** Describes a key: `RSA 2048`, `EC prime256v1`, `ED25519`. */
export function describeKey({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string {
  const more = details?.modulusLength ?? details?.namedCurve;
  return `${(type ?? 'unknown').toUpperCase()}${more === undefined ? '' : ` ${more}`}`;
}

function judgeKey(publicKey: KeyObject, name: string): CertificateFinding[] {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey;
  const key = `the key of ${name} is ${describeKey(publicKey)}`;
  switch (type) {
    case 'rsa': {
      const bits = details?.modulusLength ?? 0;
      if (bits < MIN_RSA_KEY_BITS)
        return [error('weak_key', `${key}, which OpenSSL refuses below ${MIN_RSA_KEY_BITS}`, ISSUE_INSTEAD)];
      if (bits > MAX_RSA_KEY_BITS)
        return [error('unusual_key', `${key}, which Go refuses above ${MAX_RSA_KEY_BITS}`, ISSUE_INSTEAD)];
      return [];
    }
    case 'ec': {
      const curve = details?.namedCurve ?? '';
      if (CURVES.includes(curve)) return [];
      // BoringSSL, which gRPC for Ruby in Rails uses, offers neither; Go accepts P-521.
      return curve === 'secp521r1'
        ? [warning('unusual_key', `${key}, which gRPC for Ruby does not accept`, ISSUE_INSTEAD)]
        : [error('unusual_key', `${key}, a curve that Gitaly's clients do not accept`, ISSUE_INSTEAD)];
    }
    case 'ed25519':
      return [warning('unusual_key', `${key}, which gRPC for Ruby does not accept`, ISSUE_INSTEAD)];
    default:
      return [error('unusual_key', `${key}, which Gitaly's clients do not accept`, ISSUE_INSTEAD)];
  }
}
