import { join } from 'node:path';

import { describeSubject } from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { sentenceWithCure } from '../../x509/judge/certificate-finding.js';
import { judgeChain } from '../../x509/judge/judge-chain.js';
import { loadKey } from '../../x509/key-file.js';
import { FileProblem, parseCertificates, readSettingFile } from '../../x509/pem-files.js';
import { isThere } from './existing-files.js';
import { existingIssuer, type Issuer } from './issue.js';
import { importSigningKey } from './keys.js';

/** What an authority's files are called in their directory. */
export const AUTHORITY_NAME = 'ca';

/** An authority that is in a directory. */
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
 * Reads the authority of a directory. It may be one of the operator's own: a root, or an intermediate with those above
 * it in its file.
 * @returns `undefined` if there is none
 * @throws FileProblem if what is there cannot issue certificates
 */
export async function findAuthority(directory: string, now: Date): Promise<FoundAuthority | undefined> {
  const { certificatePath, keyPath } = authorityPaths(directory);
  const [hasCertificate, hasKey] = [await isThere(certificatePath), await isThere(keyPath)];
  if (!hasCertificate && !hasKey) return undefined;
  if (!hasCertificate || !hasKey) {
    const [there, missing] = hasKey ? [keyPath, certificatePath] : [certificatePath, keyPath];
    throw new FileProblem(
      `${there} is there without ${missing}: nothing can be issued; put it there, or take another directory`,
    );
  }
  const chain = parseCertificates(certificatePath, await readSettingFile(certificatePath));
  const [own, ...above] = chain;
  if (own === undefined) throw new FileProblem(`${certificatePath}: holds no certificate in PEM`);
  const [wrong] = judgeChain([own.x509], { role: 'authority', now }).filter(
    ({ severity }) => severity === 'error',
  );
  if (wrong) throw new FileProblem(`${certificatePath}: ${sentenceWithCure(wrong)}`);
  const key = await loadKey(keyPath);
  if (!own.x509.belongsTo(key.object))
    throw new FileProblem(`${keyPath}: does not belong to the certificate in ${certificatePath}`);
  const signingKey = await importSigningKey(key.object);
  if (signingKey === undefined) {
    throw new FileProblem(
      `${keyPath}: keys of the kind ${key.object.asymmetricKeyType ?? 'unknown'} are not signed with here; ` +
        `an RSA or ECDSA key is needed for ${describeSubject(own.x509)}`,
    );
  }
  // A root is what clients trust: to send it would change nothing.
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
