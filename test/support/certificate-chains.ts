import { generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';

/** A public key (SubjectPublicKeyInfo), and what a signature that it might have made looks like. None is valid. */
interface IssuerKey {
  readonly publicKey: Buffer;
  readonly algorithm: Buffer;
  readonly signature: Buffer;
}

/** Keys that cost a stranger nothing to make. */
export const KEYS = {
  /** An RSA key with these lengths of modulus and exponent, in bytes. */
  rsa(modulusBytes: number, exponentBytes: number): IssuerKey {
    const exponent = randomBytes(exponentBytes);
    exponent[0] = 1;
    exponent[exponentBytes - 1] = 1;
    const modulus = Buffer.concat([Buffer.from([0xff]), randomBytes(modulusBytes - 2), Buffer.from([1])]);
    return {
      publicKey: sequence(
        sequence(oid('2a864886f70d010101'), NULL),
        bits(sequence(integer(modulus), integer(exponent))),
      ),
      algorithm: sequence(oid('2a864886f70d01010b'), NULL),
      signature: Buffer.concat([Buffer.from([1]), randomBytes(modulusBytes - 1)]),
    };
  },

  /** An EC key on a curve that OpenSSL knows. */
  ec(namedCurve: string): IssuerKey {
    return signedByEc(generateKeyPairSync('ec', { namedCurve }).publicKey);
  },

  ed448(): IssuerKey {
    return signedByEc(generateKeyPairSync('ed448').publicKey);
  },

  dsa(): IssuerKey {
    return signedByEc(generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }).publicKey);
  },
} as const;

/** Certificates, the first for `leaf`, each with the next one's name and a signature that is not valid. */
export function unsignedChain(leaf: KeyObject, issuers: readonly IssuerKey[]): Buffer[] {
  const keys = [leaf.export({ type: 'spki', format: 'der' }), ...issuers.map(({ publicKey }) => publicKey)];
  return keys.map((publicKey, index) => {
    const issuer = issuers[Math.min(index, issuers.length - 1)] ?? KEYS.ec('prime256v1');
    const serial = integer(Buffer.concat([Buffer.from([1]), randomBytes(7)]));
    const signed = sequence(
      tlv(0xa0, integer(Buffer.from([2]))),
      serial,
      issuer.algorithm,
      name(index + 1),
      VALIDITY,
      name(index),
      publicKey,
    );
    return sequence(signed, issuer.algorithm, bits(issuer.signature));
  });
}

/** In PEM. */
export function toPem(certificates: readonly Buffer[]): string {
  return certificates
    .map((der) => {
      const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
      return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
    })
    .join('');
}

function signedByEc(publicKey: KeyObject): IssuerKey {
  return {
    publicKey: publicKey.export({ type: 'spki', format: 'der' }),
    algorithm: sequence(oid('2a8648ce3d040302')),
    signature: sequence(integer(Buffer.from([1, 2, 3])), integer(Buffer.from([1, 2, 3]))),
  };
}

const NULL = Buffer.from([5, 0]);
const VALIDITY = sequence(tlv(0x17, Buffer.from('200101000000Z')), tlv(0x17, Buffer.from('400101000000Z')));

function name(index: number): Buffer {
  return sequence(tlv(0x31, sequence(oid('550403'), tlv(12, Buffer.from(`ca-${index}`)))));
}

function oid(hexadecimal: string): Buffer {
  return tlv(6, Buffer.from(hexadecimal, 'hex'));
}

function integer(value: Buffer): Buffer {
  return (value[0] ?? 0) >= 0x80 ? tlv(2, Buffer.from([0]), value) : tlv(2, value);
}

function bits(content: Buffer): Buffer {
  return tlv(3, Buffer.from([0]), content);
}

function sequence(...content: readonly Buffer[]): Buffer {
  return tlv(0x30, ...content);
}

function tlv(tag: number, ...content: readonly Buffer[]): Buffer {
  const value = Buffer.concat(content);
  const { length } = value;
  const short = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...short]), value]);
}
