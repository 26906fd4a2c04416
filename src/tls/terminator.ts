import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';

import { namesFor } from '../config/server-name.js';
import { Certificate } from './certificate.js';
import type { ServerPair, ServerParts } from './material.js';
import { contextParameters } from './parameters.js';

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
  /** Those that were asked for: most are never read in this process. */
  readonly #certificates = new Map<ServerPair, Certificate>();
  readonly #waiting = new WeakMap<
    Socket,
    { resolve: (socket: TLSSocket) => void; reject: (error: Error) => void }
  >();

  /** @throws if the TLS library does not take the parts */
  constructor(parts: ServerParts) {
    this.#pairs = parts.pairs;
    this.#servers = new Map(parts.pairs.map((pair) => [pair, this.#createServer(parts, pair)]));
    const [first] = this.#servers.values();
    if (first === undefined) throw new Error('a TLS listener needs a certificate');
    this.#default = first;
  }

  /**
   * Does the server's side of a handshake on an accepted socket, whose first bytes may have been put back on it, with
   * the certificate for the name that its ClientHello asks for; the default one for `undefined`.
   * The promise rejects with the TLS library's error; a caller that destroys `raw` must not wait for it.
   */
  handshake(raw: Socket, serverName: string | undefined): Promise<TLSSocket> {
    const pair = this.#pairFor(serverName);
    const server = (pair && this.#servers.get(pair)) ?? this.#default;
    return new Promise((resolve, reject) => {
      this.#waiting.set(raw, { resolve, reject });
      // The TLS socket takes this over: a client that leaves within the handshake must end it, and one that ends its
      // side of the connection later must not.
      raw.allowHalfOpen = false;
      server.emit('connection', raw);
      raw.allowHalfOpen = true;
    });
  }

  /** The certificate that a client is presented which asks for this name, or for none. */
  certificateFor(serverName: string | undefined): Certificate {
    const pair = this.#pairFor(serverName) ?? this.#pairs[0];
    if (pair === undefined) throw new Error('a TLS listener needs a certificate');
    let certificate = this.#certificates.get(pair);
    if (certificate === undefined) {
      certificate = new Certificate(pair.certificatePem);
      this.#certificates.set(pair, certificate);
    }
    return certificate;
  }

  #pairFor(serverName: string | undefined): ServerPair | undefined {
    return serverName === undefined ? undefined : choosePair(this.#pairs, serverName);
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
      this.#settle(socket)?.resolve(socket);
    });
    server.on('tlsClientError', (error, socket) => this.#settle(socket)?.reject(error));
    return server;
  }

  #settle(
    socket: TLSSocket,
  ): { resolve: (socket: TLSSocket) => void; reject: (error: Error) => void } | undefined {
    const raw = rawSocketOf(socket);
    const waiting = raw && this.#waiting.get(raw);
    if (raw) this.#waiting.delete(raw);
    return waiting;
  }
}

/**
 * The socket below a TLS socket that was made from it. Node keeps it in `_parent`, which it does not document;
 * there is no documented way from the one to the other. A test on every supported Node would notice a change.
 */
function rawSocketOf(socket: TLSSocket): Socket | undefined {
  const parent: unknown = Reflect.get(socket, '_parent');
  return typeof parent === 'object' && parent !== null && isSocket(parent) ? parent : undefined;
}

function isSocket(value: object): value is Socket {
  return 'resetAndDestroy' in value;
}

function contextOptions(parts: ServerParts, pair: ServerPair): SecureContextOptions {
  return {
    ...contextParameters(parts.settings.minVersion),
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
