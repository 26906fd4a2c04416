import { webcrypto, type KeyObject } from 'node:crypto';

/** `ec` is P-256: small, fast, and accepted by every client of Gitaly. `rsa` has 3072 bits, which is as strong. */
export const KEY_TYPES = ['ec', 'rsa'] as const;

export type KeyType = (typeof KEY_TYPES)[number];

const ALGORITHMS = {
  ec: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  rsa: {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: 3072,
    publicExponent: new Uint8Array([1, 0, 1]),
  },
} as const;

/** Curves by their OpenSSL names. */
const CURVES: Readonly<Record<string, string>> = {
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
};

export function generateKeys(type: KeyType): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHMS[type], true, ['sign', 'verify']);
}

/** The private key as PKCS#8 in PEM, without a passphrase. */
export async function exportKey({ privateKey }: webcrypto.CryptoKeyPair): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`;
}

/** Imports a private key that signs certificates with SHA-256; `undefined` for an unsupported type of key. */
export async function importSigningKey(key: KeyObject): Promise<webcrypto.CryptoKey | undefined> {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  const namedCurve = CURVES[details?.namedCurve ?? ''];
  const algorithm =
    type === 'rsa'
      ? ALGORITHMS.rsa
      : type === 'ec' && namedCurve !== undefined
        ? { name: 'ECDSA', namedCurve }
        : undefined;
  if (algorithm === undefined) return undefined;
  const der = key.export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign']);
}
