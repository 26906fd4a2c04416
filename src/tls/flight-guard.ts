import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { SUSPECT_FLIGHT_BYTES } from '../limits.js';
import type { Certificate } from '../x509/certificate.js';
import { chainFault } from './client-chain.js';
import { ClientFlight } from './client-flight.js';
import { ClientSources, type UnguardedHandshake } from './client-sources.js';
import { TappedStream } from './tapped-stream.js';

/** The error for a client whose certificates or handshake exceed a limit. */
export class ClientChainFault extends Error {}

/** A client's socket whose handshake is read before OpenSSL reads it. */
export class GuardedStream extends TappedStream {
  readonly #flight: ClientFlight;

  /** `onFault` is called once; nothing from the client is forwarded afterwards. */
  constructor(raw: Socket, flight: ClientFlight, onFault: (fault: ClientChainFault) => void) {
    let isRefused = false;
    super(raw, (bytes) => {
      const fault = isRefused || flight.isOver ? undefined : flight.read(bytes);
      if (fault !== undefined) {
        isRefused = true;
        onFault(new ClientChainFault(fault));
      }
      return !isRefused;
    });
    this.#flight = flight;
    // A client may end its side of the connection and still wait for a response.
    this.allowHalfOpen = true;
  }

  keylog(line: Buffer): void {
    this.#flight.keylog(line);
  }

  override _write(bytes: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#flight.serverSends(bytes);
    super._write(bytes, encoding, done);
  }

  override _writev(
    chunks: readonly { readonly chunk: Buffer }[],
    done: (error?: Error | null) => void,
  ): void {
    for (const { chunk } of chunks.slice(0, 1)) this.#flight.serverSends(chunk);
    super._writev(chunks, done);
  }
}

/** Shared by all listeners of the process and across reloads, so that a client is guarded only once and an attack costs only once. */
const PROCESS_SOURCES = new ClientSources();

/** The stream from which OpenSSL reads a client, and the handshake if it is not guarded. */
interface GuardedSource {
  readonly stream: Socket | GuardedStream;
  readonly unguarded: UnguardedHandshake | undefined;
}

/**
 * Prevents unauthenticated clients from choosing the cost of verifying their certificates.
 *
 * Node has no limit for it, and when Node reads a socket natively, no code runs between the socket and OpenSSL. A stream in
 * JavaScript (`GuardedStream`) can run there, but it stays for the whole connection and doubles the cost of each relayed byte.
 * So every client is guarded, except at addresses from which a client with a verified certificate has connected before.
 */
export class FlightGuard {
  readonly #sources: ClientSources;

  constructor(sources: ClientSources = PROCESS_SOURCES) {
    this.#sources = sources;
  }

  /** Takes a line of OpenSSL's key log of a socket, which has the secrets of its handshake. */
  keylog(line: Buffer, socket: TLSSocket): void {
    const source = sourceOf(socket);
    if (source instanceof GuardedStream) source.keylog(line);
  }

  /**
   * Starts a handshake.
   *
   * @param address - the client's address.
   * @param helloBytes - the length of the records of its ClientHello.
   */
  begin(
    raw: Socket,
    address: string | undefined,
    helloBytes: number,
    onFault: (fault: ClientChainFault) => void,
  ): GuardedSource {
    const unguarded = this.#sources.begin(address, performance.now());
    if (unguarded) return { stream: raw, unguarded };
    const stream = new GuardedStream(raw, new ClientFlight(helloBytes), (fault) => {
      this.#sources.attackedFrom(address, true, performance.now());
      onFault(fault);
    });
    return { stream, unguarded };
  }

  /** Inspects a client whose full handshake is complete: its certificates have been verified, and may have been too expensive. */
  finished(
    socket: TLSSocket,
    address: string | undefined,
    chain: readonly Certificate[],
  ): ClientChainFault | undefined {
    if (isGuarded(socket)) return undefined;
    const fault = chainFault(chain.map(({ raw }) => raw));
    if (fault === undefined) return undefined;
    this.#sources.attackedFrom(address, false, performance.now());
    return new ClientChainFault(fault);
  }

  /** A handshake that was not guarded failed; `bytes` is the number of bytes from the client after its ClientHello. */
  failed(address: string | undefined, bytes: number): void {
    if (bytes > SUSPECT_FLIGHT_BYTES) this.#sources.attackedFrom(address, false, performance.now());
  }

  /** Records that the client at this address has a verified certificate. */
  authenticated(address: string | undefined): void {
    this.#sources.authenticated(address);
  }

  /** Whether this connection costs more than the next one of its client would. */
  isReplaceable(socket: TLSSocket, address: string | undefined): boolean {
    return isGuarded(socket) && this.#sources.isTrusted(address, performance.now());
  }
}

function isGuarded(socket: TLSSocket): boolean {
  return sourceOf(socket) instanceof GuardedStream;
}

/**
 * The socket that a TLS socket reads from. Node keeps a socket in `_parent`, and the wrapper of another stream behind
 * `_handle`. Neither is documented, and no documented way exists. A test on every supported Node would detect a change.
 */
export function sourceOf(socket: TLSSocket): object | undefined {
  const parent = objectAt(socket, '_parent');
  if (parent) return parent;
  const handle = objectAt(socket, '_handle');
  const wrapper = handle && objectAt(handle, '_parentWrap');
  return wrapper && objectAt(wrapper, 'stream');
}

function objectAt(object: object, key: string): object | undefined {
  const value: unknown = Reflect.get(object, key);
  return typeof value === 'object' && value !== null ? value : undefined;
}
