import type { KeyObject } from 'node:crypto';

import type { Certificate } from '../../../x509/certificate.js';
import type { CertificateRole, CertificateFinding } from '../../../x509/judge/certificate-finding.js';
import type { NetworkAddress } from '../../../config/model.js';

/** A source of certificates: a file, a directory, or a server that presents them. */
export type Place =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'address'; readonly address: NetworkAddress };

/** The content of a place, with findings. */
export type Inspected = InspectedFile | InspectedServer;

export interface InspectedFile {
  readonly kind: 'file';
  /** The path, as given on the command line or found in a directory. */
  readonly place: string;
  /** In the order of the file. A chain, except in a file of authorities. */
  readonly certificates: readonly Certificate[];
  /** The role of the first certificate; `undefined` without a certificate. */
  readonly role: CertificateRole | undefined;
  readonly key: InspectedKey | undefined;
  readonly findings: readonly CertificateFinding[];
}

interface InspectedKey {
  readonly object: KeyObject;
  readonly mode: number;
  /** The places whose certificate it matches. */
  readonly belongsTo: readonly string[];
}

export interface InspectedServer {
  readonly kind: 'address';
  readonly place: string;
  /** In the order in which the server sends them. */
  readonly certificates: readonly Certificate[];
  readonly role: CertificateRole | undefined;
  readonly tls: ServedTls | undefined;
  readonly findings: readonly CertificateFinding[];
}

/** The parameters that the handshake negotiated. */
export interface ServedTls {
  readonly version: string;
  readonly cipher: string;
  /** `undefined` if the server did not select a protocol. */
  readonly alpn: string | undefined;
  /** The requested name (SNI); `undefined` for an IP address. */
  readonly serverName: string | undefined;
}

/** The permissions of a file in the notation of `chmod`: `0600`. */
export function modeText(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
