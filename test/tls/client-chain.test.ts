import { generateKeyPairSync, X509Certificate } from 'node:crypto';

import { describe, expect, test } from 'vitest';

import { chainFault } from '../../src/tls/client-chain.js';
import { Authority, type Issued } from '../support/authority.js';
import { KEYS, unsignedChain } from '../support/certificate-chains.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

function ders({ certificatePem }: Issued): Buffer[] {
  return certificatePem
    .split(/(?<=-----END CERTIFICATE-----)/)
    .filter((pem) => pem.includes('BEGIN'))
    .map((pem) => new X509Certificate(pem).raw);
}

describe('chains that are accepted', () => {
  test('of an authority, with intermediates and with an RSA key', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const intermediate = await (await ca.intermediate('one')).intermediate('two');
    expect(ders(await intermediate.client())).toHaveLength(3);
    expect(chainFault(ders(await intermediate.client()))).toBeUndefined();
    expect(chainFault(ders(await ca.client({ keyType: 'rsa' })))).toBeUndefined();
  });

  test.each([
    ['RSA 8192', KEYS.rsa(1024, 3)],
    ['P-384', KEYS.ec('secp384r1')],
    ['P-521', KEYS.ec('secp521r1')],
  ])('with a key on %s', (_name, key) => {
    expect(chainFault(unsignedChain(publicKey, [key]))).toBeUndefined();
  });
});

describe('chains that would cost too much', () => {
  test.each([
    ['an exponent as long as the modulus', KEYS.rsa(384, 384), /certificate 2 .* exponent/],
    ['an exponent of five bytes', KEYS.rsa(256, 5), /exponent/],
    ['RSA 16384', KEYS.rsa(2048, 3), /RSA key of 16384 bits, the limit is 8192/],
    ['a binary curve', KEYS.ec('sect571r1'), /curve/],
    ['a Brainpool curve', KEYS.ec('brainpoolP512r1'), /curve/],
    ['Ed448', KEYS.ed448(), /type ed448/],
    ['DSA', KEYS.dsa(), /type dsa/],
  ])('a key with %s', (_name, key, fault) => {
    expect(chainFault(unsignedChain(publicKey, [key]))).toMatch(fault);
  });

  test('more certificates than the limit', () => {
    const chain = unsignedChain(publicKey, Array<typeof KEY>(6).fill(KEY));
    expect(chainFault(chain)).toMatch(/7 certificates, the limit is 6/);
    expect(chainFault(chain.slice(0, 6))).toBeUndefined();
  });

  test('what is not a certificate', () => {
    expect(chainFault([Buffer.from('no certificate')])).toMatch(/cannot be read/);
  });
});

const KEY = KEYS.ec('prime256v1');
