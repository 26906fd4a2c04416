import type { Socket } from 'node:net';

import type { Dialer, Upstream } from '../../upstream/dialer.js';
import { UpstreamFailure } from '../../upstream/failure.js';
import { ConnectionEnd } from '../connection-end.js';
import { CLIENT_LEFT, interruptionOf, type ConnectionContext } from '../connection-context.js';
import { encodeProxyHeader } from '../proxy-header.js';
import type { Protocol } from '../protocol.js';
import type { Head } from './read-head.js';
import { MAX_UNANSWERED_BYTES } from '../../limits.js';
import { ByteQueue } from '../relay/byte-queue.js';
import { isFiller, stopRead } from '../relay/hang-up.js';

/**
 * Reads a client while its upstream is dialled, so that a disconnect is detected, and keeps its bytes. Reading stops if the client
 * sends too much.
 */
class EarlyBytes {
  readonly #stream: Socket;
  readonly #kept = new ByteQueue();

  /** `head`: the bytes that the client has sent so far. */
  constructor(stream: Socket, head: Buffer) {
    this.#stream = stream;
    this.#kept.add(head);
    stream.on('data', this.#onData).resume();
  }

  readonly #onData = (bytes: Buffer): void => {
    if (isFiller(bytes)) return;
    this.#kept.add(bytes);
    if (this.#kept.cost > MAX_UNANSWERED_BYTES) stopRead(this.#stream);
  };

  /** Stops reading, and returns all bytes that the client has sent. */
  take(): Buffer {
    this.#stream.off('data', this.#onData).pause();
    const chunks = this.#kept.take();
    const [first] = chunks;
    return first && chunks.length === 1 ? first : Buffer.concat(chunks);
  }
}

/** A client that has passed every check. */
export interface AdmittedClient {
  /** The plaintext stream of the client, paused. */
  readonly stream: Socket;
  readonly protocol: Protocol;
  /** All bytes that it has sent so far. */
  readonly head: Buffer;
}

/** A client, with its upstream or the reason that this cannot be reached. */
interface Dialled {
  readonly client: AdmittedClient;
  readonly upstream: Upstream | UpstreamFailure;
}

/** Connects to upstream. The client is read meanwhile, so that a disconnect is detected. */
export async function dialUpstream(
  { facts, settings, signal }: ConnectionContext,
  stream: Socket,
  head: Head<Protocol>,
  dialer: Dialer,
): Promise<Dialled | ConnectionEnd> {
  const { configuration, terminator } = settings;
  const { send } = configuration.proxyProtocol;
  const hello = send && encodeProxyHeader(send, facts.clientEnd, facts.localEnd);
  const early = new EarlyBytes(stream, head.bytes);
  let upstream: Upstream | UpstreamFailure | undefined;
  try {
    upstream = await dialer.dial(terminator ? 'tls' : 'plain', hello, signal);
  } catch (error) {
    if (error instanceof UpstreamFailure) upstream = error;
    else if (!signal.aborted) throw error;
  }
  const client = { stream, protocol: head.value, head: early.take() };
  if (signal.aborted || !upstream) {
    if (upstream && !(upstream instanceof UpstreamFailure)) upstream.raw.destroy();
    const interruption = interruptionOf(signal);
    return interruption === CLIENT_LEFT
      ? new ConnectionEnd('reset', 'client', 'the client disconnected while upstream was dialled')
      : interruption;
  }
  return { client, upstream };
}
