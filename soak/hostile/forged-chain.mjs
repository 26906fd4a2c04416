import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The length of each key's exponent and modulus, which makes a check of its signature expensive. */
const KEY_BYTES = 384;

/**
 * A client certificate with a real key, followed by authorities without valid signatures: each has an RSA key with
 * an exponent as long as its modulus, so that every signature that is checked with it costs tens of milliseconds.
 * @param {string} directory
 * @param {number} length certificates in all
 * @returns {{ cert: string, key: string }} PEM
 */
export function forgeChain(directory, length) {
  const [key, leaf] = [join(directory, 'forged.key'), join(directory, 'forged.pem')];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-subj', '/CN=forged', '-days', '2', '-keyout', key, '-out', leaf],
    ],
    { stdio: 'ignore' },
  );
  const point = execFileSync('openssl', ['x509', '-in', leaf, '-pubkey', '-noout']);
  const publicKey = Buffer.from(point.toString().replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
  const certificates = [certificate('link 0', 'link 1', publicKey)];
  for (let index = 1; index < length; index += 1)
    certificates.push(certificate(`link ${index}`, `link ${index + 1}`, hugeKey()));
  return { cert: certificates.map(pem).join(''), key: readFileSync(key, 'utf8') };
}

/** A SubjectPublicKeyInfo of RSA. */
function hugeKey() {
  const number = () => {
    const bytes = randomBytes(KEY_BYTES);
    bytes.writeUInt8((bytes[0] ?? 0) | 0x80, 0);
    bytes.writeUInt8((bytes[KEY_BYTES - 1] ?? 0) | 1, KEY_BYTES - 1);
    return integer(Buffer.concat([Buffer.from([0]), bytes]));
  };
  const algorithm = der(0x30, Buffer.from('06092a864886f70d0101010500', 'hex'));
  return der(0x30, Buffer.concat([algorithm, bitString(der(0x30, Buffer.concat([number(), number()])))]));
}

/**
 * @param {string} subject
 * @param {string} issuer
 * @param {Buffer} publicKey a SubjectPublicKeyInfo
 */
function certificate(subject, issuer, publicKey) {
  const sha256WithRsa = der(0x30, Buffer.from('06092a864886f70d01010b0500', 'hex'));
  const validity = der(0x30, Buffer.concat([utcTime(-86_400_000), utcTime(10 * 86_400_000)]));
  const isAuthority = der(0x30, Buffer.from('0603551d130101ff040530030101ff', 'hex'));
  const body = der(
    0x30,
    Buffer.concat([
      der(0xa0, integer(Buffer.from([2]))),
      integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
      sha256WithRsa,
      name(issuer),
      validity,
      name(subject),
      publicKey,
      der(0xa3, der(0x30, isAuthority)),
    ]),
  );
  return der(0x30, Buffer.concat([body, sha256WithRsa, bitString(randomBytes(KEY_BYTES))]));
}

/** @param {string} commonName */
function name(commonName) {
  const value = Buffer.concat([Buffer.from('0603550403', 'hex'), der(0x0c, Buffer.from(commonName))]);
  return der(0x30, der(0x31, der(0x30, value)));
}

/** @param {number} fromNowMs */
function utcTime(fromNowMs) {
  const text = new Date(Date.now() + fromNowMs).toISOString().replaceAll(/[-:T]|\.\d+/g, '');
  return der(0x17, Buffer.from(text.slice(2)));
}

/** @param {Buffer} bytes */
function integer(bytes) {
  return der(0x02, bytes);
}

/** @param {Buffer} bytes */
function bitString(bytes) {
  return der(0x03, Buffer.concat([Buffer.from([0]), bytes]));
}

/**
 * @param {number} tag
 * @param {Buffer} content
 */
function der(tag, content) {
  const length =
    content.length < 0x80
      ? Buffer.from([content.length])
      : content.length < 0x100
        ? Buffer.from([0x81, content.length])
        : Buffer.from([0x82, content.length >>> 8, content.length & 0xff]);
  return Buffer.concat([Buffer.from([tag]), length, content]);
}

/** @param {Buffer} bytes */
function pem(bytes) {
  const lines = bytes.toString('base64').replaceAll(/(.{64})/g, '$1\n');
  return `-----BEGIN CERTIFICATE-----\n${lines.trimEnd()}\n-----END CERTIFICATE-----\n`;
}
