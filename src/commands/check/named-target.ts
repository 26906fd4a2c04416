import type { Address, TlsVersion } from '../../config/model.js';
import type { LoadedPair } from '../../x509/certificate-pair.js';
import type { Anchors } from './anchors.js';

/** An address to check, with the parameters of the client. */
export interface CheckTarget {
  /** Whether the address was given itself, or is a listener or a forward of a configuration. */
  readonly role: 'address' | 'listen' | 'forward';
  /** Its name in the report: the address as written. */
  readonly title: string;
  readonly address: Address;
  /** Defined if and only if the address is `tls://` or `https://`. */
  readonly tls: TargetTls | undefined;
  /** Bytes to send before anything else: a PROXY header. */
  readonly preamble: Buffer | undefined;
  /** For HTTP, only the connection and TLS are checked. */
  readonly protocol: 'grpc' | 'http';
  /** The reason why the target cannot be checked at all. */
  readonly skipReason?: string;
}

/** The TLS parameters for a target. */
export interface TargetTls {
  /** The name that is requested with SNI and that the certificate must contain. */
  readonly serverName: string;
  readonly anchors: Anchors;
  readonly pair: LoadedPair | undefined;
  /** The source of the client certificate: flags of `check`, or `upstream_tls` of a configuration. */
  readonly pairFrom: 'flags' | 'upstream_tls';
  readonly minVersion: TlsVersion;
}

/** Settings of all targets. */
export interface CheckSettings {
  /** The timeout of each connection, handshake and call. */
  readonly timeoutMs: number;
  /** The secret that is shared with Gitaly; it is never sent. */
  readonly token: string | undefined;
  readonly nowMs: () => number;
}
