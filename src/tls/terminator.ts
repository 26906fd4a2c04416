import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import {
  createSecureContext,
  createServer,
  type SecureContext,
  type SecureContextOptions,
  type Server,
  type TLSSocket,
} from 'node:tls';

import { MAX_TIMER_MS } from '../limits.js';
import { namesFor } from '../config/server-name.js';
import { guarded } from '../guarded.js';
import type { ObservedAuthority } from '../policy/observed-traffic.js';
import { Certificate, presentedChain } from '../x509/certificate.js';
import { ClientAuthorities } from './client-authorities.js';
import type { ClientSources, UnguardedHandshake } from './client-sources.js';
import { FlightGuard, sourceOf } from './flight-guard.js';
import { KeyUpdateLimit, reset } from './key-updates.js';
import type { ServerPair, ServerParts } from './material.js';
import { contextParameters } from './parameters.js';
import { SessionEpochs } from './session-epochs.js';

/** A handshake in progress. */
interface Waiting {
  readonly raw: Socket;
  readonly resolve: (socket: TLSSocket) => void;
  readonly reject: (error: Error) => void;
  readonly startedAtMs: number;
  /** The epoch in which it began. */
  readonly secret: Uint8Array;
  readonly address: string | undefined;
  /** Set if OpenSSL reads the client directly although its certificate is requested. */
  readonly unguarded: UnguardedHandshake | undefined;
  /** The number of bytes from the client after its ClientHello. */
  readonly flightBytes: () => number;
  readonly onKeyUpdateFlood: () => void;
}

/** The services that a terminator needs from its process. */
export interface TerminatorEnvironment {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Called when the sessions of this listener must not be resumed from this time on, if the time was not known before. */
  readonly onSessionsEnd: (atMs: number) => void;
  /** The default is the one of the process. */
  readonly sources?: ClientSources;
}

/**
 * Does the TLS handshakes of one listener with one set of certificates, keys, CAs and CRLs.
 *
 * A reload builds another terminator for new connections, while handshakes in progress finish with their own one. Ticket keys
 * belong to a set of CAs and CRLs and to an epoch of it (`SessionEpochs`): a session cannot be resumed with another set or in
 * another epoch, but each process that serves the set can resume sessions that another one created.
 *
 * Every certificate has a server of its own. A context from an `SNICallback` does not replace the default certificate
 * (SSLWrap's UseSNIContext in Node's crypto_common.cc) but is added to it if its key has another type. OpenSSL then selects
 * the certificate whose type comes first: an ECDSA default for an RSA name.
 */
export class TlsTerminator {
  readonly #pairs: readonly ServerPair[];
  readonly #servers: ReadonlyMap<ServerPair, Server>;
  readonly #default: Server;
  /** Only certificates that clients have requested, because most are never needed in this process. */
  readonly #certificates = new Map<ServerPair, Certificate>();
  readonly #waiting = new WeakMap<object, Waiting>();
  /** Set if client certificates are requested. */
  readonly #guard: FlightGuard | undefined;
  /** Set if client certificates are requested. */
  readonly #authorities: ClientAuthorities | undefined;
  readonly #keyUpdates = new KeyUpdateLimit();
  readonly #environment: TerminatorEnvironment;
  readonly #epochs: SessionEpochs;
  /** The secret that the ticket keys in use were derived from. */
  #secret: Uint8Array;

  /** @throws if the TLS library does not accept the parts */
  constructor(
    parts: ServerParts,
    environment: TerminatorEnvironment = { now: Date.now, onSessionsEnd: () => undefined },
  ) {
    if (parts.settings.clientAuth !== 'none') {
      // Without `ca` Node trusts the public CAs.
      if (!parts.clientCa?.length) throw new Error('client_auth needs the CAs of clients');
      this.#guard = new FlightGuard(environment.sources);
      this.#authorities = new ClientAuthorities(parts.clientCa);
    }
    this.#environment = environment;
    this.#epochs = new SessionEpochs(parts.sessions, parts.sessionDates);
    this.#secret = this.#epochs.secretAt(environment.now());
    this.#pairs = parts.pairs;
    this.#servers = new Map(parts.pairs.map((pair) => [pair, this.#createServer(parts, pair)]));
    const [first] = this.#servers.values();
    if (first === undefined) throw new Error('a TLS listener needs a certificate');
    this.#default = first;
  }

  /**
   * Does the server's side of a handshake on an accepted socket, whose first bytes have been put back on it, with the
   * certificate for the server name in its ClientHello, or the default one for `undefined`. The promise rejects with the TLS
   * library's error, or with the reason why the client is refused. A caller that destroys `raw` must not wait for it.
   *
   * @param address - the client's address; `undefined` if it has none.
   * @param helloBytes - the length of the ClientHello's records.
   * @param onKeyUpdateFlood - called if the client exceeds `KEY_UPDATES` later; `raw` has been reset by then.
   */
  handshake(
    raw: Socket,
    address: string | undefined,
    serverName: string | undefined,
    helloBytes: number,
    onKeyUpdateFlood: () => void,
  ): Promise<TLSSocket> {
    const pair = this.#pairFor(serverName);
    const server = (pair && this.#servers.get(pair)) ?? this.#default;
    const startedAtMs = this.#environment.now();
    const secret = this.#renewTicketKeys(startedAtMs);
    return new Promise((resolve, reject) => {
      const begun = this.#guard?.begin(raw, address, helloBytes, reject);
      const source = begun?.stream ?? raw;
      const bytesBefore = raw.bytesRead;
      const flightBytes = (): number => raw.bytesRead - bytesBefore;
      const unguarded = begun?.unguarded;
      const waiting = {
        raw,
        address,
        resolve,
        reject,
        unguarded,
        flightBytes,
        startedAtMs,
        secret,
        onKeyUpdateFlood,
      };
      this.#waiting.set(source, waiting);
      // The TLS socket takes this setting over. A client that ends its side during the handshake must end the connection; one
      // that does so later must not.
      source.allowHalfOpen = false;
      server.emit('connection', source);
      source.allowHalfOpen = true;
    });
  }

  /** Records that the client at this address, whose handshake this terminator has done, has a verified certificate. */
  clientAuthenticated(address: string | undefined): void {
    this.#guard?.authenticated(address);
  }

  /** Whether a connection costs more CPU per byte than the next one of its client would. */
  isReplaceable(socket: TLSSocket, address: string | undefined): boolean {
    return this.#guard?.isReplaceable(socket, address) ?? false;
  }

  /** Prevents sessions created before this time from being resumed after it. */
  endSessions(atMs: number): void {
    this.#epochs.endBy(atMs, this.#environment.now());
  }

  /** The certificate for a client with this server name, or without one. */
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

  /** The CAs that may verify a client with this certificate, for the observed traffic. */
  authoritiesOf(socket: TLSSocket, own: Certificate): readonly ObservedAuthority[] {
    return this.#authorities?.of(socket, own) ?? [];
  }

  #pairFor(serverName: string | undefined): ServerPair | undefined {
    return serverName === undefined ? undefined : choosePair(this.#pairs, serverName);
  }

  /** Applies the ticket keys of the epoch, and returns the secret that they are derived from. */
  #renewTicketKeys(nowMs: number): Uint8Array {
    const secret = this.#epochs.secretAt(nowMs);
    if (secret !== this.#secret) {
      this.#secret = secret;
      for (const [pair, server] of this.#servers) server.setTicketKeys(ticketKeysFor(pair, secret));
    }
    return secret;
  }

  #createServer(parts: ServerParts, pair: ServerPair): Server {
    const verifiesClients = parts.settings.clientAuth !== 'none';
    const server = createServer({
      ALPNProtocols: [...parts.settings.protocols],
      requestCert: verifiesClients,
      // judgeClient verifies the client after the handshake: a refusal during it would leave no certificate for the log.
      rejectUnauthorized: false,
      // The listener's own timeout also covers the PROXY header and the ClientHello. Node's is disabled (set to the maximum).
      handshakeTimeout: MAX_TIMER_MS,
    });
    useContext(
      server,
      createSecureContext({
        ...contextOptions(parts, pair),
        ticketKeys: ticketKeysFor(pair, this.#secret),
        // Node's default is derived from the command line, which can differ between processes.
        sessionIdContext: 'gitaly-tls-proxy',
      }),
    );
    server.on('secureConnection', (socket) => {
      socket.allowHalfOpen = true;
      const waiting = this.#settle(socket);
      if (!waiting) return;
      this.#keyUpdates.watch(socket, waiting.raw, waiting.onKeyUpdateFlood);
      const refuse = (fault: Error): void => {
        // Called immediately: OpenSSL has created the tickets of the session, or creates them next, and Node sends them when
        // this returns. The client could use such a ticket to be admitted.
        reset(waiting.raw);
        waiting.reject(fault);
      };
      const judge = (): void => {
        const fault = verifiesClients ? this.#judgeClient(socket, waiting) : undefined;
        if (fault) refuse(fault);
        else waiting.resolve(socket);
      };
      guarded((fault) => refuse(new JudgementFault(fault)), judge)();
    });
    server.on('keylog', (line: Buffer, socket: TLSSocket) => {
      this.#guard?.keylog(line, socket);
      this.#keyUpdates.keylog(line, socket);
      // The secrets are not kept in memory longer than in OpenSSL.
      line.fill(0);
    });
    server.on('tlsClientError', (error, socket) => {
      const waiting = this.#settle(socket);
      if (!waiting) return;
      if (waiting.unguarded) this.#guard?.failed(waiting.address, waiting.flightBytes());
      waiting.reject(error);
    });
    return server;
  }

  /** Returns why a client is refused although its handshake is complete. For a new session, records when it must end. */
  #judgeClient(socket: TLSSocket, { address, startedAtMs, secret }: Waiting): Error | undefined {
    if (socket.isSessionReused())
      return this.#renewTicketKeys(this.#environment.now()) === secret ? undefined : new SessionEnded();
    const chain = presentedChain(socket);
    const fault = this.#guard?.finished(socket, address, chain);
    if (!fault) this.#authorities?.note(socket, chain);
    if (fault || !socket.authorized) return fault;
    const atMs = issuersExpireAt(chain, startedAtMs);
    if (this.#epochs.endBy(atMs, this.#environment.now())) this.#environment.onSessionsEnd(atMs);
    return undefined;
  }

  #settle(socket: TLSSocket): Waiting | undefined {
    const source = sourceOf(socket);
    const waiting = source && this.#waiting.get(source);
    if (source) this.#waiting.delete(source);
    waiting?.unguarded?.end();
    return waiting;
  }
}

/** An exception during the verification of a client whose handshake is complete. */
export class JudgementFault extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}

/** A session was resumed but expired before its handshake ended. */
class SessionEnded extends Error {
  readonly code = 'TLS_SESSION_ENDED';

  constructor() {
    super('the session expired while it was being resumed');
  }
}

/**
 * The earliest expiry of an issuer in the chain that a verified client presented. The client's own certificate is not included:
 * OpenSSL keeps it, and only it, so it is verified again when the session is resumed.
 *
 * @param startedAtMs - the start of the handshake: certificates that had expired by then were not used to verify the client.
 */
function issuersExpireAt(chain: readonly Certificate[], startedAtMs: number): number {
  const ends = chain.slice(1).map(({ validTo }) => validTo.getTime());
  return Math.min(...ends.filter((endMs) => endMs > startedAtMs));
}

/**
 * Replaces the context of a server. Node creates it from the server's options and ignores `allowPartialTrustChain`, which it
 * documents for contexts only. A test on every supported Node would detect a change of the undocumented name.
 */
function useContext(server: Server, context: SecureContext): void {
  if (!Reflect.has(server, '_sharedCreds'))
    throw new Error('this version of Node is not supported: tls.Server has changed');
  Reflect.set(server, '_sharedCreds', context);
}

function contextOptions(parts: ServerParts, pair: ServerPair): SecureContextOptions {
  return {
    ...contextParameters(parts.settings.minVersion, 'server'),
    cert: pair.certificatePem,
    key: pair.keyPem,
    ...(parts.clientCa && { ca: [...parts.clientCa] }),
    // With CRLs, OpenSSL requires one of each issuer up to a self-signed CA, even if a chain may end before it.
    ...(parts.revocations ? { crl: [...parts.revocations] } : { allowPartialTrustChain: true }),
  };
}

/** The 48 bytes of ticket keys for one certificate: a session is only resumed with the certificate that it was created with. */
function ticketKeysFor({ certificatePem }: ServerPair, secret: Uint8Array): Buffer {
  return createHash('sha512').update(secret).update(certificatePem).digest().subarray(0, 48);
}

/** The first certificate that has the name, otherwise the first that has its wildcard. */
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
