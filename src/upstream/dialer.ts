import { connect, type OnReadOpts, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { isTlsScheme } from '../config/address.js';
import type { Address } from '../config/model.js';
import { KEEP_ALIVE_MS } from '../limits.js';
import { UpstreamFailure, upstreamFailure } from './failure.js';
import { dialHost, type Dial } from './happy-eyeballs.js';
import { readBufferFor, type SinkKind } from './read-buffer.js';
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
   * `sink`: what the upstream's bytes will be written to. `hello`: bytes to send before anything else, TLS included
   * (a PROXY header).
   */
  dial(sink: SinkKind, hello: Buffer | undefined): Dial<Upstream>;
  /** Connects for a library that reads by `data` events, and whose connections end as a whole. `hello` as above. */
  connect(hello?: Buffer): Dial<Socket>;
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
    dial: (sink, hello) => dialUpstream(address, handshake, timeoutMs, sink, hello),
    connect: (hello) => connectUpstream(address, handshake, timeoutMs, hello),
  };
}

function dialUpstream(
  address: Address,
  handshake: Handshake | undefined,
  timeoutMs: number,
  sink: SinkKind,
  hello: Buffer | undefined,
): Dial<Upstream> {
  const target = { receiver: unexpectedRead };
  const buffer = handshake ? undefined : readBufferFor(sink);
  const onread: OnReadOpts | undefined = buffer && {
    buffer,
    callback: (length) => target.receiver(length, buffer),
  };
  const connecting = dialAddress(address, { allowHalfOpen: true, ...(onread && { onread }) });
  return within(timeoutMs, connecting, async (raw) => {
    raw.on('error', ignore);
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

function connectUpstream(
  address: Address,
  handshake: Handshake | undefined,
  timeoutMs: number,
  hello: Buffer | undefined,
): Dial<Socket> {
  return within(timeoutMs, dialAddress(address, { allowHalfOpen: false }), async (raw) => {
    raw.on('error', ignore);
    if (hello) raw.write(hello);
    return handshake ? handshake(raw) : raw;
  });
}

/** Connects, the addresses of a name in turn. */
function dialAddress(
  address: Address,
  options: { readonly allowHalfOpen: boolean; readonly onread?: OnReadOpts },
): Dial<Socket> {
  const common = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS, ...options };
  return address.scheme === 'unix'
    ? dialPath(() => connect({ path: address.path, ...common }))
    : dialHost(address.host, address.port, (host) => connect({ host, port: address.port, ...common }));
}

/** Bounds a dial and what `finish` does with its socket, which is destroyed if they fail. */
function within<T>(
  timeoutMs: number,
  connecting: Dial<Socket>,
  finish: (raw: Socket) => Promise<T>,
): Dial<T> {
  let raw: Socket | undefined;
  let giveUp: (reason: Error) => void = () => undefined;
  const givenUp = new Promise<never>((_resolve, reject) => {
    giveUp = reject;
  });
  const cancel = (reason: Error): void => {
    connecting.cancel(reason);
    giveUp(reason);
  };
  const timer = setTimeout(
    () => cancel(new UpstreamFailure('timeout', `no connection within ${timeoutMs} ms (timeouts.dial)`)),
    timeoutMs,
  );
  const run = async (): Promise<T> => {
    raw = await connecting.done;
    return finish(raw);
  };
  const done = Promise.race([run(), givenUp]).then(
    (result) => {
      clearTimeout(timer);
      return result;
    },
    (error: unknown) => {
      clearTimeout(timer);
      raw?.destroy();
      throw error instanceof Error ? upstreamFailure(error) : error;
    },
  );
  return { done, cancel };
}

/** The socket is paused until the relay has installed its receiver. */
const unexpectedRead: ReadReceiver = () => {
  throw new Error('an upstream socket was read before its relay began');
};

/** Errors are read from the socket when it closes; without a listener Node would end the process. */
function ignore(): void {
  // The relay looks at `errored` when the socket closes.
}

function dialPath(attempt: () => Socket): Dial<Socket> {
  const socket = attempt();
  let cancel: (reason: Error) => void = () => undefined;
  const done = new Promise<Socket>((resolve, reject) => {
    cancel = (reason) => {
      socket.destroy();
      reject(reason);
    };
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
  return { done, cancel };
}
