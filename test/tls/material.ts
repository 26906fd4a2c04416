import { randomBytes, X509Certificate } from 'node:crypto';

import type { ServerTls, UpstreamTls } from '../../src/config/model.js';
import { loadPair, type LoadedPair, type PairRole } from '../../src/x509/certificate-pair.js';
import {
  serverParts,
  upstreamParts,
  type ServerMaterial,
  type ServerParts,
  type UpstreamParts,
} from '../../src/tls/material.js';
import { ClientSources } from '../../src/tls/client-sources.js';
import { loadRevocations } from '../../src/x509/revocation.js';
import type { TerminatorEnvironment } from '../../src/tls/terminator.js';
import { loadTrust, type TrustAnchors } from '../../src/x509/trust.js';
import type { Issued } from '../support/authority.js';

/** A setting that names a file. */
export function file(path: string): { path: string; key: string[] } {
  return { path, key: ['test'] };
}

/** A pair as the program loads it, its dates not judged: tests make certificates that are out of date. */
export async function pairOf(issued: Issued, role: PairRole = 'server'): Promise<LoadedPair> {
  const setting = { certificate: file(issued.certificatePath), key: file(issued.keyPath) };
  const [certificate] = issued.certificatePem.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/) ?? [''];
  const now = new Date(new X509Certificate(certificate).validFrom);
  const pair = await loadPair(setting, role, new Date(now.getTime() + 1000), []);
  if (!pair) throw new Error('the pair does not load');
  return pair;
}

/** Authorities as the program loads them. */
export async function anchorsOf(...paths: readonly string[]): Promise<TrustAnchors> {
  const anchors = await loadTrust({ files: paths.map(file), directories: [] }, []);
  if (!anchors) throw new Error('the authorities do not load');
  return anchors;
}

/** An address whose handshakes are not guarded: a guard would have to know the length of the ClientHello. */
export const KNOWN_ADDRESS = '192.0.2.1';

/** The environment of a terminator to which this address is known. */
export function unguarded(environment: Partial<TerminatorEnvironment> = {}): TerminatorEnvironment {
  const sources = new ClientSources();
  sources.authenticated(KNOWN_ADDRESS);
  return { now: Date.now, onSessionsEnd: () => undefined, sources, ...environment };
}

/** The certificates of a listener, and the clients that it admits. */
export async function serverMaterial(
  certificates: readonly Issued[],
  {
    clientCa,
    clientCrl,
    ...settings
  }: Partial<Pick<ServerTls, 'clientAuth' | 'minVersion' | 'requireAlpn' | 'protocols'>> & {
    clientCa?: string;
    clientCrl?: string;
  } = {},
): Promise<ServerParts> {
  const material: ServerMaterial = {
    settings: {
      certificates: certificates.map(({ certificatePath, keyPath }) => ({
        certificate: file(certificatePath),
        key: file(keyPath),
      })),
      minVersion: 'TLSv1.2',
      clientAuth: 'none',
      clientCa: clientCa === undefined ? undefined : { files: [file(clientCa)], directories: [] },
      clientCrl: clientCrl === undefined ? undefined : file(clientCrl),
      requireAlpn: true,
      protocols: ['h2'],
      ...settings,
    },
    pairs: await Promise.all(certificates.map((issued) => pairOf(issued))),
    clientCa: clientCa === undefined ? undefined : await anchorsOf(clientCa),
    revocations:
      clientCrl === undefined ? undefined : await loadRevocations(file(clientCrl), new Date(0), []),
  };
  return serverParts(material, { secret: randomBytes(48), sinceMs: Date.now() });
}

/** How an upstream is reached and verified. */
export async function upstreamMaterial(
  caPath: string,
  settings: Partial<Pick<UpstreamTls, 'serverName' | 'minVersion' | 'protocol'>> & { client?: Issued } = {},
): Promise<UpstreamParts> {
  const { client, ...rest } = settings;
  const anchors = await anchorsOf(caPath);
  return upstreamParts({
    settings: {
      ca: { files: [file(caPath)], directories: [] },
      certificate: client && { certificate: file(client.certificatePath), key: file(client.keyPath) },
      serverName: undefined,
      minVersion: 'TLSv1.2',
      protocol: 'h2',
      ...rest,
    },
    pair: client && (await pairOf(client, 'client')),
    ca: anchors.map(({ pem }) => pem),
    anchors,
  });
}
