import 'reflect-metadata';

import { webcrypto } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const LIFETIME_MS = 24 * 60 * 60 * 1000;
/** Clocks differ by seconds; a certificate that begins now may not have begun for its reader. */
const BACKDATE_MS = 60 * 1000;

/** Where the demo's certificates are. All are valid for a day. */
export interface ThrowawayCertificates {
  readonly caPath: string;
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly clientCertificatePath: string;
  readonly clientKeyPath: string;
}

type Keys = Awaited<ReturnType<typeof generateKeys>>;

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** Makes a CA, a server certificate for this machine's loopback names and a client certificate, in a directory. */
export async function createThrowawayCertificates(directory: string): Promise<ThrowawayCertificates> {
  x509.cryptoProvider.set(webcrypto);
  const caKeys = await generateKeys();
  const notBefore = new Date(Date.now() - BACKDATE_MS);
  const notAfter = new Date(Date.now() + LIFETIME_MS);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: 'CN=gitaly-tls-proxy demo CA',
    notBefore,
    notAfter,
    signingAlgorithm: ALGORITHM,
    keys: caKeys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const issue = async (
    subject: string,
    names: x509.GeneralName[],
    keys: Keys,
  ): Promise<x509.X509Certificate> =>
    x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject,
      issuer: ca.subject,
      notBefore,
      notAfter,
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: caKeys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        // Both usages: Gitaly presents its server certificate as client certificate to GitLab.
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.serverAuth,
          x509.ExtendedKeyUsage.clientAuth,
        ]),
        new x509.SubjectAlternativeNameExtension(names),
      ],
    });
  const serverKeys = await generateKeys();
  const server = await issue(
    'CN=gitaly-tls-proxy demo',
    [
      new x509.GeneralName('dns', 'localhost'),
      new x509.GeneralName('ip', '127.0.0.1'),
      new x509.GeneralName('ip', '::1'),
    ],
    serverKeys,
  );
  const clientKeys = await generateKeys();
  const client = await issue('CN=demo client', [new x509.GeneralName('dns', 'demo-client')], clientKeys);

  const paths = {
    caPath: join(directory, 'ca.pem'),
    certificatePath: join(directory, 'cert.pem'),
    keyPath: join(directory, 'key.pem'),
    clientCertificatePath: join(directory, 'client.pem'),
    clientKeyPath: join(directory, 'client-key.pem'),
  };
  await writeFile(paths.caPath, ca.toString('pem'), { mode: 0o644 });
  await writeFile(paths.certificatePath, server.toString('pem'), { mode: 0o644 });
  await writeFile(paths.keyPath, await exportKey(serverKeys), { mode: 0o600 });
  await writeFile(paths.clientCertificatePath, client.toString('pem'), { mode: 0o644 });
  await writeFile(paths.clientKeyPath, await exportKey(clientKeys), { mode: 0o600 });
  return paths;
}

/** RFC 5280 section 4.1.2.2: positive, at most 20 octets; CAs use 64 random bits or more. */
function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return Buffer.from(bytes).toString('hex');
}

async function exportKey(keys: Keys): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`;
}
