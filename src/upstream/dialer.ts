import { connect, type OnReadOpts, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { deferred } from '../deferred.js';
import { isTlsScheme } from '../config/address.js';
import type { Address } from '../config/model.js';
import { KEEP_ALIVE_MS, READ_BUFFER_BYTES, SHARED_READ_BUFFER_BYTES } from '../limits.js';
import { withDeadline } from '../deadline.js';
import { UpstreamFailure, upstreamFailure } from './failure.js';
import { abortError, DialAborted, dialHost } from './happy-eyeballs.js';
import type { TlsClient } from './tls-client.js';

/**
 * Takes what a plaintext upstream socket reads: `length` bytes at the start of `buffer`, which is filled again by
 * the next read. Returns whether to continue reading; after `false`, the socket's `resume()` continues it.
 */
export type ReadReceiver = (length: number, buffer: Buffer) => boolean;

/** A connected upstream, paused. */
export interface Upstream {
  /** What to write plaintext to. */
  readonly stream: Socket;
  /** The socket below TLS, or `stream` itself; to reset and to watch. */
  readonly raw: Socket;
  /**
   * Installs who takes what is read, without a copy. `undefined` for TLS, whose bytes come as `data` events of
   * `stream`.
   */
  readonly receive: ((receiver: ReadReceiver) => void) | undefined;
}

/** Connects to one upstream address. */
export interface Dialer {
  readonly address: Address;
  /**
   * Rejects with an `UpstreamFailure`, and if `signal` aborts with its reason or `DialAborted`; no socket is left then.
   *
   * @param sink - what the upstream's bytes will be written to.
   * @param hello - bytes to send before anything else, TLS included (a PROXY header).
   */
  dial(sink: SinkKind, hello: Buffer | undefined, signal: AbortSignal): Promise<Upstream>;
  /** Connects for a library that reads by `data` events, and whose connections end as a whole. Otherwise as `dial`. */
  connect(hello?: Buffer, signal?: AbortSignal): Promise<Socket>;
}

/** Does TLS on a connected socket. */
type Handshake = (raw: Socket) => Promise<TLSSocket>;

/** A dialer for an address; `tls` is for one that is `tls://` or `https://`, and is there then. */
export function createDialer(address: Address, tls: TlsClient | undefined, timeoutMs: number): Dialer {
  const handshake: Handshake | undefined =
    tls && address.scheme !== 'unix' && isTlsScheme(address.scheme)
      ? (raw) => tls.handshake(raw, address.host)
      : undefined;
  return {
    address,
    dial: (sink, hello, signal) => dialUpstream({ address, handshake, timeoutMs, hello, signal }, sink),
    connect: (hello, signal = NEVER) => connectUpstream({ address, handshake, timeoutMs, hello, signal }),
  };
}

/** A connection that is being made. */
interface Dialling {
  readonly address: Address;
  readonly handshake: Handshake | undefined;
  readonly timeoutMs: number;
  readonly hello: Buffer | undefined;
  readonly signal: AbortSignal;
}

const NEVER = new AbortController().signal;

function dialUpstream(dialling: Dialling, sink: SinkKind): Promise<Upstream> {
  const { address, handshake, hello } = dialling;
  const target = { receiver: unexpectedRead };
  const buffer = handshake ? undefined : readBufferFor(sink);
  const onread: OnReadOpts = buffer
    ? { buffer, callback: (length) => target.receiver(length, buffer) }
    : BELOW_TLS;
  return inTime(dialling, async (signal, opened) => {
    const raw = opened(await dialAddress(address, { allowHalfOpen: true, onread }, signal));
    if (hello) raw.write(hello);
    if (!handshake) {
      raw.pause();
      return { stream: raw, raw, receive: (receiver) => (target.receiver = receiver) };
    }
    const stream: TLSSocket = await handshake(raw);
    stream.on('error', ignore);
    stream.pause();
    return { stream, raw, receive: undefined };
  });
}

function connectUpstream(dialling: Dialling): Promise<Socket> {
  const { address, handshake, hello } = dialling;
  return inTime(dialling, async (signal, opened) => {
    const raw = opened(await dialAddress(address, { allowHalfOpen: false }, signal));
    if (hello) raw.write(hello);
    return handshake ? handshake(raw) : raw;
  });
}

/** Connects, the addresses of a name in turn. */
function dialAddress(
  address: Address,
  options: { readonly allowHalfOpen: boolean; readonly onread?: OnReadOpts },
  signal: AbortSignal,
): Promise<Socket> {
  const common = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS, ...options };
  return address.scheme === 'unix'
    ? dialPath(connect({ path: address.path, ...common }), signal)
    : dialHost(address.host, address.port, signal, (host) =>
        connect({ host, port: address.port, ...common }),
      );
}

/**
 * Runs a dial within its deadline. Its socket is destroyed if the dial fails or is aborted.
 *
 * @param dial - stops when its signal is aborted, and passes on its socket once that is connected.
 */
async function inTime<T>(
  { timeoutMs, signal }: Dialling,
  dial: (signal: AbortSignal, opened: (raw: Socket) => Socket) => Promise<T>,
): Promise<T> {
  const timeout = (): UpstreamFailure =>
    new UpstreamFailure('timeout', `no connection within ${timeoutMs} ms (timeouts.dial)`);
  const deadline = withDeadline(signal, timeoutMs, timeout);
  let raw: Socket | undefined;
  const aborted = deferred<never>();
  const abort = (): void => aborted.reject(abortError(deadline.signal));
  // Before the first await: `dialHost` stops by itself, and a TLS handshake does not.
  deadline.signal.addEventListener('abort', abort, { once: true });
  const opened = (socket: Socket): Socket => {
    raw = socket;
    raw.on('error', ignore);
    if (deadline.signal.aborted) raw.destroy();
    return raw;
  };
  try {
    return await Promise.race([dial(deadline.signal, opened), aborted.promise]);
  } catch (error) {
    raw?.destroy();
    if (error instanceof DialAborted || !(error instanceof Error)) throw error;
    throw upstreamFailure(error);
  } finally {
    deadline.signal.removeEventListener('abort', abort);
    deadline.clear();
  }
}

/** The socket is paused until the relay has installed its receiver. */
const unexpectedRead: ReadReceiver = () => {
  throw new Error('an upstream socket was read before its relay began');
};

/**
 * For a socket below TLS: with `onread`, its `pause()` stops the reading at once, which the relay needs (`hang-up.ts`). TLS
 * takes over in the turn in which the socket connects, before anything is read into this buffer.
 */
const BELOW_TLS: OnReadOpts = { buffer: Buffer.alloc(1), callback: () => false };

/** Errors are read from the socket when it closes; without a listener Node would end the process. */
function ignore(): void {
  // The relay looks at `errored` when the socket closes.
}

function dialPath(socket: Socket, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const settle = (error: Error | undefined): void => {
      signal.removeEventListener('abort', abort);
      socket.off('error', settle);
      if (!error) {
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(error);
    };
    const abort = (): void => settle(abortError(signal));
    socket.once('error', settle);
    socket.once('connect', () => settle(undefined));
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
  });
}

const shared = Buffer.allocUnsafeSlow(SHARED_READ_BUFFER_BYTES);

/** The kind of socket that the bytes of an upstream are written to. */
type SinkKind = 'tls' | 'plain';

/**
 * The buffer that an upstream socket reads into.
 *
 * A TLS sink that is not writing has encrypted a view into memory of its own when `write` returns (TLSWrap::DoWrite in
 * Node's crypto_tls.cc, which copies even what OpenSSL does not take), and the relay writes to no other. All such
 * connections read into one buffer, so that an idle one holds none. A plain socket keeps the view until the kernel
 * has it all: each has a buffer of its own.
 */
function readBufferFor(sink: SinkKind): Buffer {
  return sink === 'tls' ? shared : Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
}
