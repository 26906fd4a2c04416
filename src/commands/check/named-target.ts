import type { Address, TlsVersion } from '../../config/model.js';
import type { LoadedPair } from '../../x509/certificate-pair.js';
import type { Anchors } from './anchors.js';

/** One address to check, and as whose client. */
export interface CheckTarget {
  /** Whether it was named itself, or is what a proxy's configuration listens on or forwards to. */
  readonly role: 'address' | 'listen' | 'forward';
  /** How it is called in the report: as it was written. */
  readonly title: string;
  /** Where to connect to. */
  readonly address: Address;
  /** There if and only if the address is `tls://` or `https://`. */
  readonly tls: TargetTls | undefined;
  /** Bytes to send before anything else: a PROXY header. */
  readonly hello: Buffer | undefined;
  /** What is spoken there; of HTTP only the connection and TLS are looked at. */
  readonly speaks: 'grpc' | 'http';
  /** Why it cannot be connected to at all. */
  readonly cannot?: string;
}

/** How TLS is done with a target. */
export interface TargetTls {
  /** The name that the certificate must hold, and that is asked for. */
  readonly serverName: string;
  readonly anchors: Anchors;
  readonly pair: LoadedPair | undefined;
  /** The source of the client certificate: flags of `check`, or `upstream_tls` of a configuration. */
  readonly pairFrom: 'flags' | 'upstream_tls';
  readonly minVersion: TlsVersion;
}

/** What all targets are checked with. */
export interface CheckSettings {
  /** Of each connection, handshake and call. */
  readonly timeoutMs: number;
  /** The secret that Gitaly knows, too; it is never sent. */
  readonly token: string | undefined;
  readonly nowMs: () => number;
}
