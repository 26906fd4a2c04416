import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { FLIGHT_GUARD_MS, SUSPECT_FLIGHT_BYTES } from '../limits.js';
import type { Certificate } from './certificate.js';
import { chainFault } from './client-chain.js';
import { ClientFlight } from './client-flight.js';
import { TappedStream } from './tapped-stream.js';

/** A client sent certificates, or a handshake, that exceed a limit. */
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

/** Until when clients are guarded, in milliseconds of `performance.now()`. */
export interface GuardAlarm {
  untilMs: number;
}

/** Shared by all listeners of the process, and across reloads, so that one attack is paid for once. */
const PROCESS_ALARM: GuardAlarm = { untilMs: Number.NEGATIVE_INFINITY };

/**
 * Prevents unauthenticated clients from choosing the cost of verifying their certificates.
 *
 * Node has no limit for it, and when Node reads a socket natively, no code runs between the socket and OpenSSL. A stream in
 * JavaScript (`GuardedStream`) can run there, but it stays for the whole connection and doubles the cost of each relayed byte.
 * So clients are guarded only for some minutes after an attack, as TCP uses SYN cookies: one handshake in that time costs up to
 * half a second, every other one is refused before a signature is verified.
 */
export class FlightGuard {
  readonly #alarm: GuardAlarm;

  constructor(alarm: GuardAlarm = PROCESS_ALARM) {
    this.#alarm = alarm;
  }

  /** The stream from which OpenSSL reads a client. `helloBytes`: the length of its ClientHello's records. */
  source(
    raw: Socket,
    helloBytes: number,
    onFault: (fault: ClientChainFault) => void,
  ): Socket | GuardedStream {
    if (performance.now() >= this.#alarm.untilMs) return raw;
    return new GuardedStream(raw, new ClientFlight(helloBytes), (fault) => {
      this.#raise();
      onFault(fault);
    });
  }

  /** Inspects a client whose full handshake is complete: its certificates have been verified, and may have been too expensive. */
  finished(socket: TLSSocket, chain: readonly Certificate[]): ClientChainFault | undefined {
    if (sourceOf(socket) instanceof GuardedStream) return undefined;
    const fault = chainFault(chain.map(({ raw }) => raw));
    if (fault === undefined) return undefined;
    this.#raise();
    return new ClientChainFault(fault);
  }

  /** A handshake failed; `bytes` is the number of bytes from the client after its ClientHello. */
  failed(bytes: number): void {
    if (bytes > SUSPECT_FLIGHT_BYTES) this.#raise();
  }

  #raise(): void {
    this.#alarm.untilMs = performance.now() + FLIGHT_GUARD_MS;
  }

  /** Takes a line of OpenSSL's key log of a socket. */
  keylog(line: Buffer, socket: TLSSocket): void {
    if (this.#alarm.untilMs === Number.NEGATIVE_INFINITY) return;
    const source = sourceOf(socket);
    if (source instanceof GuardedStream) source.keylog(line);
  }
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
