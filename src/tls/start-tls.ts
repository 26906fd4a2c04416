import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, type SecureContext, type TLSSocket } from 'node:tls';

/** The parameters of a client's handshake. */
export interface ClientHandshake {
  readonly context: SecureContext;
  /** Sent as SNI, unless it is an IP address. */
  readonly serverName: string;
  /** Offered by ALPN. */
  readonly protocols: readonly string[];
}

/**
 * Begins a handshake as a client on a connected stream. The caller judges the certificate, before it writes: if Node rejects
 * one, the message cannot contain it.
 */
export function startTls(stream: Duplex, { context, serverName, protocols }: ClientHandshake): TLSSocket {
  return connect({
    socket: stream,
    secureContext: context,
    ALPNProtocols: [...protocols],
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
    ...(isIP(serverName) === 0 && { servername: serverName }),
  });
}
