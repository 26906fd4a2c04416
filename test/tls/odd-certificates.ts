import 'reflect-metadata';

import { webcrypto } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as x509 from '@peculiar/x509';

import { Certificate } from '../../src/x509/certificate.js';
import type { CrlExtension } from '../support/authority.js';
import { shell } from '../support/shell.js';

x509.cryptoProvider.set(webcrypto);

const EC = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** One Subject Alternative Name, of any kind and content. */
export type OddName = readonly [kind: 'dns' | 'ip' | 'url' | 'email' | 'dn', value: string];

/** A self-signed certificate with names that no authority would issue. */
export async function oddCertificate(
  subject: string | x509.JsonNameParams,
  names: readonly OddName[],
): Promise<Certificate> {
  const keys = await webcrypto.subtle.generateKey(EC, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: new x509.Name(subject),
    notBefore: new Date('2026-01-01T00:00:00Z'),
    notAfter: new Date('2036-01-01T00:00:00Z'),
    signingAlgorithm: EC,
    keys,
    extensions:
      names.length === 0
        ? []
        : [
            new x509.SubjectAlternativeNameExtension(
              names.map(([kind, value]) => new x509.GeneralName(kind, value)),
            ),
          ],
  });
  return new Certificate(Buffer.from(certificate.rawData));
}

/** A certificate and its key, whose curve is described by its parameters instead of by its name. */
export async function explicitCurvePair(
  directory: string,
): Promise<{ certificatePem: string; certificatePath: string; keyPath: string }> {
  const { exitCode, output } = await shell(
    `cd '${directory}' && umask 077 && ` +
      'openssl ecparam -name prime256v1 -param_enc explicit -genkey -noout -out explicit.key && ' +
      'openssl req -x509 -new -key explicit.key -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost ' +
      '-addext basicConstraints=CA:FALSE -out explicit.pem',
  );
  if (exitCode !== 0) throw new Error(output);
  const certificatePath = join(directory, 'explicit.pem');
  return {
    certificatePem: await readFile(certificatePath, 'utf8'),
    certificatePath,
    keyPath: join(directory, 'explicit.key'),
  };
}

/** A revocation list in PEM with these dates; without `nextUpdate` it has no date by which it must be replaced. */
export async function oddRevocationList(
  thisUpdate: Date,
  nextUpdate: Date | undefined,
  { issuer = 'CN=the-ca', extensions = [] }: { issuer?: string; extensions?: readonly CrlExtension[] } = {},
): Promise<string> {
  const keys = await webcrypto.subtle.generateKey(EC, true, ['sign', 'verify']);
  const crl = await x509.X509CrlGenerator.create({
    issuer,
    thisUpdate,
    ...(nextUpdate && { nextUpdate }),
    extensions: extensions.map(
      ({ id, critical, der }) => new x509.Extension(id, critical, Buffer.from(der, 'hex')),
    ),
    signingAlgorithm: EC,
    signingKey: keys.privateKey,
  });
  const lines =
    Buffer.from(crl.rawData)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return ['-----BEGIN X509 CRL-----', ...lines, '-----END X509 CRL-----', ''].join('\n');
}
