import type { Socket } from 'node:net';

import type { Dialer, Upstream } from '../../upstream/dialer.js';
import { UpstreamFailure } from '../../upstream/failure.js';
import { ConnectionEnd } from '../connection-end.js';
import { CLIENT_LEFT, interruptionOf, type ConnectionContext } from '../connection-context.js';
import { encodeProxyHeader } from '../proxy-header.js';
import type { Protocol } from '../protocol.js';
import { EarlyBytes } from './early-bytes.js';
import type { Head } from './read-head.js';

/** A client that has passed every check. */
export interface AdmittedClient {
  /** The plaintext stream of the client, paused. */
  readonly stream: Socket;
  readonly protocol: Protocol;
  /** All bytes that it has sent so far. */
  readonly head: Buffer;
}

/** A client, with its upstream or the reason that this cannot be reached. */
export interface Dialled {
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
