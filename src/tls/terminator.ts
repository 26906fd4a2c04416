import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';

import { namesFor } from '../config/server-name.js';
import { FlightGuard, sourceOf } from './flight-guard.js';
import type { ServerPair, ServerParts } from './material.js';
import { contextParameters } from './parameters.js';

/** A handshake that is under way. */
interface Waiting {
  readonly resolve: (socket: TLSSocket) => void;
  readonly reject: (error: Error) => void;
  /** How many bytes have come from the client behind its ClientHello. */
  readonly flightBytes: () => number;
}

/**
 * Does the TLS handshakes of one listener with one set of certificates, keys, CAs and CRLs.
 *
 * A terminator never changes: a reload builds another and new connections go there, while handshakes under way end
 * with the one they began with. Its ticket keys are those of its set, so that a session which an old set of CAs or CRLs
 * allowed cannot be resumed with a new one, and each process that serves the set can resume what another began.
 *
 * Every certificate has a server of its own. A context that an `SNICallback` hands out does not replace the default
 * certificate (SSLWrap's UseSNIContext in Node's crypto_common.cc) but stands beside it if its key is of another
 * type, and then OpenSSL takes the one whose type comes first: an ECDSA default for an RSA name.
 */
export class TlsTerminator {
  readonly #pairs: readonly ServerPair[];
  readonly #servers: ReadonlyMap<ServerPair, Server>;
  readonly #default: Server;
  readonly #waiting = new WeakMap<object, Waiting>();
  /** Where client certificates are asked for. */
  readonly #guard: FlightGuard | undefined;

  /** @throws if the TLS library does not take the parts */
  constructor(parts: ServerParts) {
    if (parts.settings.clientAuth !== 'none') {
      // Without `ca` Node trusts the public CAs.
      if (!parts.clientCa?.length) throw new Error('client_auth needs the CAs of clients');
      this.#guard = new FlightGuard(() => this.#servers.values());
    }
    this.#pairs = parts.pairs;
    this.#servers = new Map(parts.pairs.map((pair) => [pair, this.#createServer(parts, pair)]));
    const [first] = this.#servers.values();
    if (first === undefined) throw new Error('a TLS listener needs a certificate');
    this.#default = first;
  }

  /**
   * Does the server's side of a handshake on an accepted socket, whose first bytes have been put back on it, with
   * the certificate for the name that its ClientHello asks for; the default one for `undefined`.
   * The promise rejects with the TLS library's error or a `ClientChainFault`; a caller that destroys `raw` must not wait
   * for it.
   *
   * @param helloBytes - the length of the ClientHello's records.
   */
  handshake(raw: Socket, serverName: string | undefined, helloBytes: number): Promise<TLSSocket> {
    const pair = serverName === undefined ? undefined : choosePair(this.#pairs, serverName);
    const server = (pair && this.#servers.get(pair)) ?? this.#default;
    return new Promise((resolve, reject) => {
      const source = this.#guard?.source(raw, helloBytes, reject) ?? raw;
      const bytesBefore = raw.bytesRead;
      this.#waiting.set(source, { resolve, reject, flightBytes: () => raw.bytesRead - bytesBefore });
      // The TLS socket takes this over: a client that leaves within the handshake must end it, and one that ends its
      // side of the connection later must not.
      source.allowHalfOpen = false;
      server.emit('connection', source);
      source.allowHalfOpen = true;
    });
  }

  #createServer(parts: ServerParts, pair: ServerPair): Server {
    const server = createServer({
      ...contextOptions(parts, pair),
      ticketKeys: ticketKeysFor(pair, parts.ticketSecret),
      // Node makes one of the command line, which need not be the same in each process.
      sessionIdContext: 'gitaly-tls-proxy',
      ALPNProtocols: [...parts.settings.protocols],
      requestCert: parts.settings.clientAuth !== 'none',
      // Judged after the handshake by judgeClient: a refusal inside of it carries no certificate to name in the log.
      rejectUnauthorized: false,
      // The listener's own deadline covers the PROXY header and the ClientHello too; Node's is switched off (maximum).
      handshakeTimeout: 2 ** 31 - 1,
    });
    server.on('secureConnection', (socket) => {
      socket.allowHalfOpen = true;
      const waiting = this.#settle(socket);
      const fault = this.#guard?.finished(socket);
      if (fault) waiting?.reject(fault);
      else waiting?.resolve(socket);
    });
    server.on('tlsClientError', (error, socket) => {
      const waiting = this.#settle(socket);
      if (waiting) this.#guard?.failed(waiting.flightBytes());
      waiting?.reject(error);
    });
    return server;
  }

  #settle(socket: TLSSocket): Waiting | undefined {
    const source = sourceOf(socket);
    const waiting = source && this.#waiting.get(source);
    if (source) this.#waiting.delete(source);
    return waiting;
  }
}

function contextOptions(parts: ServerParts, pair: ServerPair): SecureContextOptions {
  return {
    ...contextParameters(parts.settings.minVersion, 'server'),
    cert: pair.certificatePem,
    key: pair.keyPem,
    ...(parts.clientCa && { ca: [...parts.clientCa] }),
    ...(parts.revocations && { crl: [...parts.revocations] }),
  };
}

/** The 48 bytes of one certificate: a session is resumed with the certificate that it began with. */
function ticketKeysFor({ certificatePem }: ServerPair, secret: Uint8Array): Buffer {
  return createHash('sha512').update(secret).update(certificatePem).digest().subarray(0, 48);
}

/** The first certificate that holds the name, else the first that holds its wildcard. */
export function choosePair<Pair extends Pick<ServerPair, 'names'>>(
  pairs: readonly Pair[],
  serverName: string,
): Pair | undefined {
  for (const name of namesFor(serverName)) {
    const pair = pairs.find(({ names }) => names.dns.includes(name));
    if (pair) return pair;
  }
  return undefined;
}
