import type { KeyObject } from 'node:crypto';

import { error, warning, type Finding, type Judged } from './finding.js';

/** What OpenSSL takes at its security level 2, the default of Debian, Ubuntu and OpenSSL 3.2. */
const MIN_RSA_BITS = 2048;
/** Go's crypto/tls refuses larger ones: each handshake would cost too much. */
const MAX_RSA_BITS = 8192;

const ISSUE_INSTEAD = 'issue one with an ECDSA key on P-256, or an RSA key of 2048 to 4096 bits';

/** Curves that all clients of Gitaly take, by OpenSSL's names. */
const CURVES = ['prime256v1', 'secp384r1'];

/** Whether key and signature are accepted by Gitaly's clients: Go, and gRPC for Ruby with BoringSSL. */
export function judgeStrength({ x509, publicKey, facts, name }: Judged): Finding[] {
  const findings = judgeKey(publicKey, name);
  // What a self-signed certificate says of itself is not verified by anybody.
  if (/sha1|md5|md2/iu.test(facts.signatureAlgorithm) && x509.subject !== x509.issuer) {
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

/** A key in words: `RSA 2048`, `EC prime256v1`, `ED25519`. */
export function describeKey({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string {
  const more = details?.modulusLength ?? details?.namedCurve;
  return `${(type ?? 'unknown').toUpperCase()}${more === undefined ? '' : ` ${more}`}`;
}

function judgeKey(publicKey: KeyObject, name: string): Finding[] {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey;
  const key = `the key of ${name} is ${describeKey(publicKey)}`;
  switch (type) {
    case 'rsa': {
      const bits = details?.modulusLength ?? 0;
      if (bits < MIN_RSA_BITS)
        return [error('weak_key', `${key}, which OpenSSL refuses below ${MIN_RSA_BITS}`, ISSUE_INSTEAD)];
      if (bits > MAX_RSA_BITS)
        return [error('unusual_key', `${key}, which Go refuses above ${MAX_RSA_BITS}`, ISSUE_INSTEAD)];
      return [];
    }
    case 'ec': {
      const curve = details?.namedCurve ?? '';
      if (CURVES.includes(curve)) return [];
      // BoringSSL, which Rails' gRPC is built with, offers neither; Go takes P-521.
      return curve === 'secp521r1'
        ? [warning('unusual_key', `${key}, which gRPC for Ruby does not take`, ISSUE_INSTEAD)]
        : [error('unusual_key', `${key}, a curve that Gitaly's clients do not take`, ISSUE_INSTEAD)];
    }
    case 'ed25519':
      return [warning('unusual_key', `${key}, which gRPC for Ruby does not take`, ISSUE_INSTEAD)];
    default:
      return [error('unusual_key', `${key}, which Gitaly's clients do not take`, ISSUE_INSTEAD)];
  }
}
