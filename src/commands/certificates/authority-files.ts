import { join } from 'node:path';

import { describeSubject } from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { sentenceWithCure } from '../../x509/judge/certificate-finding.js';
import { judgeChain } from '../../x509/judge/judge-chain.js';
import { loadKey } from '../../x509/key-file.js';
import { FileProblem, parseCertificates, readSettingFile } from '../../x509/pem-files.js';
import { pathExists } from './existing-files.js';
import { existingIssuer, type Issuer } from './issue.js';
import { importSigningKey } from './keys.js';

/** The name of an authority's files, without the extension. */
export const AUTHORITY_NAME = 'ca';

/** The authority of a directory. */
export interface FoundAuthority {
  readonly issuer: Issuer;
  readonly x509: Certificate;
}

export function authorityPaths(directory: string): { certificatePath: string; keyPath: string } {
  return {
    certificatePath: join(directory, `${AUTHORITY_NAME}.pem`),
    keyPath: join(directory, `${AUTHORITY_NAME}.key`),
  };
}

/**
 * Reads the authority of a directory. It may be the operator's own: a root, or an intermediate followed by its issuers.
 * @returns `undefined` if the directory has no authority
 * @throws FileProblem if the authority cannot issue certificates
 */
export async function findAuthority(directory: string, now: Date): Promise<FoundAuthority | undefined> {
  const { certificatePath, keyPath } = authorityPaths(directory);
  const [hasCertificate, hasKey] = [await pathExists(certificatePath), await pathExists(keyPath)];
  if (!hasCertificate && !hasKey) return undefined;
  if (!hasCertificate || !hasKey) {
    const [there, missing] = hasKey ? [keyPath, certificatePath] : [certificatePath, keyPath];
    throw new FileProblem(
      `${there} exists without ${missing}: add the missing file, or use another directory`,
    );
  }
  const chain = parseCertificates(certificatePath, await readSettingFile(certificatePath));
  const [own, ...above] = chain;
  if (own === undefined) throw new FileProblem(`${certificatePath}: contains no PEM certificate`);
  const [wrong] = judgeChain([own.x509], { role: 'authority', now }).filter(
    ({ severity }) => severity === 'error',
  );
  if (wrong) throw new FileProblem(`${certificatePath}: ${sentenceWithCure(wrong)}`);
  const key = await loadKey(keyPath);
  if (!own.x509.belongsTo(key.object))
    throw new FileProblem(`${keyPath}: does not match the certificate in ${certificatePath}`);
  const signingKey = await importSigningKey(key.object);
  if (signingKey === undefined) {
    throw new FileProblem(
      `${keyPath}: cannot sign with a key of type ${key.object.asymmetricKeyType ?? 'unknown'}; ` +
        `use an RSA or ECDSA key for ${describeSubject(own.x509)}`,
    );
  }
  // A root is not sent, because clients that trust it already have it.
  const sent = [own, ...above].filter(({ x509 }) => !x509.subjectDer.equals(x509.issuerDer));
  return {
    issuer: existingIssuer(
      own.pem,
      signingKey,
      sent.map(({ pem }) => `${pem}\n`),
    ),
    x509: own.x509,
  };
}
