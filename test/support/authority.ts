import 'reflect-metadata';

import { webcrypto } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto);

const EC = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const RSA = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
};
const DAY_MS = 86_400_000;

type KeyType = 'ec' | 'rsa' | 'rsa-1024';

/** What to issue; each has a default that is right for a server or client of these tests. */
export interface IssueOptions {
  /** Subject Alternative Names; `[]` is a certificate with a Common Name only. */
  readonly dns?: readonly string[];
  readonly ip?: readonly string[];
  readonly commonName?: string;
  /** The whole subject instead of a Common Name; empty for none. */
  readonly subject?: x509.JsonNameParams;
  /** Others, as they are. */
  readonly extensions?: readonly x509.Extension[];
  /** The hash of the signature, SHA-256 unless asked otherwise. */
  readonly hash?: 'SHA-1';
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly usages?: readonly ('serverAuth' | 'clientAuth')[];
  /** P-256 unless asked otherwise; `rsa` has 2048 bits. The CA's own key is P-256. */
  readonly keyType?: KeyType;
  /** Hexadecimal, random unless given. */
  readonly serialNumber?: string;
}

type Dates = Pick<IssueOptions, 'notBefore' | 'notAfter'>;

/** An extension of a CRL; `der`: its value in hexadecimal. */
export interface CrlExtension {
  readonly id: string;
  readonly critical: boolean;
  readonly der: string;
}

/** A certificate with its key, in memory and on disk. */
export interface Issued {
  /** Leaf, then the intermediates up to the CA, which is left out. */
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly serialNumber: string;
}

/** A certificate authority of a test. Everything it makes is written into its directory. */
export class Authority {
  readonly caPem: string;
  readonly caPath: string;
  readonly #directory: string;
  readonly #certificate: x509.X509Certificate;
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #intermediates: string;
  #issued = 0;

  private constructor(
    directory: string,
    name: string,
    certificate: x509.X509Certificate,
    keys: webcrypto.CryptoKeyPair,
    intermediates: string,
  ) {
    this.#directory = directory;
    this.#certificate = certificate;
    this.#keys = keys;
    this.#intermediates = intermediates;
    this.caPem = certificate.toString('pem');
    this.caPath = join(directory, `${name}.pem`);
  }

  /** Makes a CA and writes its certificate to `DIRECTORY/NAME.pem`. */
  static async create(directory: string, name = 'ca', dates: Dates = {}): Promise<Authority> {
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: `CN=${name}`,
      ...validity(dates),
      signingAlgorithm: EC,
      keys,
      extensions: caExtensions(),
    });
    const authority = new Authority(directory, name, certificate, keys, '');
    await writeFile(authority.caPath, authority.caPem);
    return authority;
  }

  /** An intermediate CA under this one; what it issues carries the chain. */
  async intermediate(
    name: string,
    { extensions = [], ...dates }: Dates & { readonly extensions?: readonly x509.Extension[] } = {},
  ): Promise<Authority> {
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${name}`,
      issuer: this.#certificate.subject,
      ...validity(dates),
      signingAlgorithm: EC,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      extensions: [
        ...caExtensions().filter(({ type }) => !extensions.some((own) => own.type === type)),
        ...extensions,
      ],
    });
    const chain = `${certificate.toString('pem')}\n${this.#intermediates}`;
    const authority = new Authority(this.#directory, name, certificate, keys, chain);
    await writeFile(authority.caPath, authority.caPem);
    return authority;
  }

  /** A server's certificate, for `localhost`, 127.0.0.1 and ::1 unless asked otherwise. */
  server(options: IssueOptions = {}): Promise<Issued> {
    return this.#issue({ dns: ['localhost'], ip: ['127.0.0.1', '::1'], usages: ['serverAuth'], ...options });
  }

  /** A client's certificate. */
  client(options: IssueOptions = {}): Promise<Issued> {
    return this.#issue({ dns: ['client.test'], usages: ['clientAuth'], ...options });
  }

  /** Writes a CRL of this CA with these serial numbers to a file and returns its path. */
  async revocationList(
    revoked: readonly string[],
    {
      nextUpdate = new Date(Date.now() + 30 * DAY_MS),
      thisUpdate = new Date(Math.min(Date.now() - 60_000, nextUpdate.getTime() - 60_000)),
      extensions = [],
    }: { nextUpdate?: Date; thisUpdate?: Date; extensions?: readonly CrlExtension[] } = {},
  ): Promise<string> {
    const crl = await x509.X509CrlGenerator.create({
      issuer: this.#certificate.subject,
      thisUpdate,
      nextUpdate,
      extensions: extensions.map(
        ({ id, critical, der }) => new x509.Extension(id, critical, Buffer.from(der, 'hex')),
      ),
      signingAlgorithm: EC,
      signingKey: this.#keys.privateKey,
      entries: revoked.map((serial) => ({
        serialNumber: serial,
        revocationDate: new Date(Date.now() - 60_000),
      })),
    });
    const path = this.caPath.replace(/\.pem$/, `-${this.#issued++}.crl`);
    // The library writes `BEGIN CRL`; OpenSSL and other programs read `BEGIN X509 CRL`.
    await writeFile(
      path,
      crl.toString('pem').replaceAll(' CRL-----', ' X509 CRL-----').replaceAll('X509 X509', 'X509'),
    );
    return path;
  }

  async #issue(options: IssueOptions): Promise<Issued> {
    const keys = await generateKeys(options.keyType);
    const serial = options.serialNumber ?? serialNumber();
    const names = [
      ...(options.dns ?? []).map((name) => new x509.GeneralName('dns', name)),
      ...(options.ip ?? []).map((address) => new x509.GeneralName('ip', address)),
    ];
    const usages = (options.usages ?? []).map((usage) => x509.ExtendedKeyUsage[usage]);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serial,
      subject: options.subject
        ? new x509.Name(options.subject)
        : `CN=${options.commonName ?? options.dns?.[0] ?? 'test'}`,
      issuer: this.#certificate.subject,
      ...validity(options),
      signingAlgorithm: { ...EC, hash: options.hash ?? EC.hash },
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      extensions: [
        ...(options.extensions ?? []),
        new x509.BasicConstraintsExtension(false),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        ...(usages.length > 0 ? [new x509.ExtendedKeyUsageExtension(usages)] : []),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      ],
    });
    const number = this.#issued++;
    const issued = {
      certificatePem: `${certificate.toString('pem')}\n${this.#intermediates}`,
      keyPem: await exportKey(keys),
      certificatePath: join(this.#directory, `cert-${number}-${serial.slice(0, 8)}.pem`),
      keyPath: join(this.#directory, `key-${number}-${serial.slice(0, 8)}.pem`),
      serialNumber: serial,
    };
    await writeFile(issued.certificatePath, issued.certificatePem);
    await writeFile(issued.keyPath, issued.keyPem, { mode: 0o600 });
    return issued;
  }
}

function generateKeys(type: KeyType = 'ec'): Promise<webcrypto.CryptoKeyPair> {
  const rsa = { ...RSA, modulusLength: type === 'rsa-1024' ? 1024 : RSA.modulusLength };
  return webcrypto.subtle.generateKey(type === 'ec' ? EC : rsa, true, ['sign', 'verify']);
}

function caExtensions(): x509.Extension[] {
  return [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ];
}

function validity({ notBefore, notAfter }: Dates): { notBefore: Date; notAfter: Date } {
  return {
    notBefore: notBefore ?? new Date(Date.now() - DAY_MS),
    notAfter: notAfter ?? new Date(Date.now() + 30 * DAY_MS),
  };
}

function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString('hex');
}

async function exportKey(keys: webcrypto.CryptoKeyPair): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`;
}
