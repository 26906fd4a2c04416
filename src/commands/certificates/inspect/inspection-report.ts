import type { KeyObject } from 'node:crypto';

import type { Certificate } from '../../../x509/certificate.js';
import type { CertificateRole, CertificateFinding } from '../../../x509/judge/certificate-finding.js';
import type { NetworkAddress } from '../../../config/model.js';

/** Where certificates are looked for: a file or a directory of them, or a server that presents them. */
export type Place =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'address'; readonly address: NetworkAddress };

/** What was found at a place, and what is wrong with it. */
export type Inspected = InspectedFile | InspectedServer;

export interface InspectedFile {
  readonly kind: 'file';
  /** The path as it was given, or found in a directory. */
  readonly place: string;
  /** In the file's order; for an authority's file no chain, but each for itself. */
  readonly certificates: readonly Certificate[];
  /** Of the first certificate; `undefined` without one. */
  readonly role: CertificateRole | undefined;
  readonly key: InspectedKey | undefined;
  readonly findings: readonly CertificateFinding[];
}

interface InspectedKey {
  readonly object: KeyObject;
  readonly mode: number;
  /** The places whose certificate it belongs to. */
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

/** What was agreed on in the handshake. */
export interface ServedTls {
  readonly version: string;
  readonly cipher: string;
  /** `undefined`: the server did not select a protocol. */
  readonly alpn: string | undefined;
  /** The name that was asked for (SNI); `undefined` for an IP address. */
  readonly serverName: string | undefined;
}

/** The permissions of a file as `chmod` takes them: `0600`. */
export function modeText(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
