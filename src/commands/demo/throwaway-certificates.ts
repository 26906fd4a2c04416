import { join } from 'node:path';

import { createAuthority, issueLeaf, type IssuedPair, type LeafRole } from '../certificates/issue.js';
import { DEMO_CERTIFICATE_MS } from '../../limits.js';
import { placeFiles } from '../certificates/place-files.js';
import type { SubjectName } from '../certificates/subject-name.js';

/** The paths of the demo's certificates and keys. The certificates are valid for one day. */
export interface ThrowawayCertificates {
  readonly caPath: string;
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly clientCertificatePath: string;
  readonly clientKeyPath: string;
}

/**
 * Creates a CA, a server certificate for this machine's loopback names and a client certificate in a directory.
 * Replaces those of an earlier start.
 */
export async function createThrowawayCertificates(directory: string): Promise<ThrowawayCertificates> {
  const notAfter = new Date(Date.now() + DEMO_CERTIFICATE_MS);
  const { issuer, pair: ca } = await createAuthority('gitaly-tls-proxy demo CA', 'ec', notAfter);
  const issue = (role: LeafRole, ...names: [SubjectName, ...SubjectName[]]): Promise<IssuedPair> =>
    issueLeaf(issuer, { role, names, keyType: 'ec', notAfter });
  const server = await issue(
    'server',
    { kind: 'dns', value: 'localhost' },
    { kind: 'ip', value: '127.0.0.1' },
    { kind: 'ip', value: '::1' },
  );
  const client = await issue('client', { kind: 'dns', value: 'demo-client' });

  const paths = {
    caPath: join(directory, 'ca.pem'),
    certificatePath: join(directory, 'cert.pem'),
    keyPath: join(directory, 'key.pem'),
    clientCertificatePath: join(directory, 'client.pem'),
    clientKeyPath: join(directory, 'client-key.pem'),
  };
  const replace = true;
  await placeFiles([
    { path: paths.caPath, content: ca.certificatePem, secret: false, replace },
    { path: paths.keyPath, content: server.keyPem, secret: true, replace },
    { path: paths.certificatePath, content: server.certificatePem, secret: false, replace },
    { path: paths.clientKeyPath, content: client.keyPem, secret: true, replace },
    { path: paths.clientCertificatePath, content: client.certificatePem, secret: false, replace },
  ]);
  return paths;
}
