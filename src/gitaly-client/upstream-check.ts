import { formatHostPort } from '../config/host-port.js';
import { CallFailure, GrpcClient, NotGrpc } from './grpc-client.js';
import { checkHealth } from './check-health.js';
import { gitalyAuthorization } from './gitaly-token.js';
import type { Dialer } from '../upstream/dialer.js';
import { UpstreamFailure, upstreamFailure } from '../upstream/failure.js';

/** An upstream and the settings of its health check. */
export interface CheckedUpstream {
  /** The `listener` label. */
  readonly listener: string;
  readonly dialer: Dialer;
  /** The first bytes to send: a PROXY header without a client address. */
  readonly hello: Buffer | undefined;
  /** For `http` the check only connects: HTTP servers have no common path for health checks. */
  readonly speaks: 'grpc' | 'http';
  /** The timeout for connecting, and again for the call. */
  readonly timeoutMs: number;
  /** Gitaly's token; if it is undefined, the call is sent without one. */
  readonly token: string | undefined;
}

/** The result of a check. */
export type UpstreamHealth =
  /** `warning`: the upstream responds, but there is a problem. */
  | { readonly up: true; readonly warning: string | undefined }
  | { readonly up: false; readonly reason: string; readonly words: string };

/**
 * Connects to an upstream and, if it is Gitaly, calls its health service. The check uses its own connection, closes it at the
 * end, and does not act for any client. `signal` aborts the check; its result is then meaningless.
 */
export async function checkUpstream(upstream: CheckedUpstream, signal: AbortSignal): Promise<UpstreamHealth> {
  signal.throwIfAborted();
  try {
    const socket = await upstream.dialer.connect(upstream.hello, signal);
    if (upstream.speaks === 'http' || signal.aborted) {
      socket.destroy();
      return FINE;
    }
    const connection = new GrpcClient(socket, authorityOf(upstream), schemeOf(upstream));
    const close = (): void => connection.close();
    signal.addEventListener('abort', close);
    try {
      return await askHealth(connection, upstream);
    } finally {
      signal.removeEventListener('abort', close);
      connection.close();
    }
  } catch (error) {
    return signal.aborted ? FINE : failureOf(error);
  }
}

const FINE: UpstreamHealth = { up: true, warning: undefined };

async function askHealth(
  connection: GrpcClient,
  { token, timeoutMs }: CheckedUpstream,
): Promise<UpstreamHealth> {
  const authorization = token === undefined ? undefined : gitalyAuthorization(token, Date.now());
  const health = await checkHealth(connection, timeoutMs, authorization);
  switch (health.kind) {
    case 'serving':
      return FINE;
    case 'wants_token':
      // The upstream is reachable and serves clients that send a token.
      return {
        up: true,
        warning:
          token === undefined
            ? undefined
            : `Gitaly refuses the token in health_check_token_path or its timestamp: ${health.words}`,
      };
    case 'refuses_certificate':
      return { up: false, reason: 'client_certificate_refused', words: health.words };
    case 'not_serving':
    case 'unknown_service':
    case 'error':
      return { up: false, reason: health.kind, words: health.words };
  }
}

function failureOf(error: unknown): UpstreamHealth {
  if (error instanceof NotGrpc) return { up: false, reason: 'not_grpc', words: error.message };
  if (error instanceof CallFailure) {
    const reason = error.cause instanceof Error ? upstreamFailure(error.cause).reason : 'no_answer';
    return { up: false, reason, words: error.message };
  }
  if (error instanceof UpstreamFailure) return { up: false, reason: error.reason, words: error.message };
  throw error;
}

function authorityOf({ dialer: { address } }: CheckedUpstream): string {
  return address.scheme === 'unix' ? 'localhost' : formatHostPort(address);
}

function schemeOf({ dialer: { address } }: CheckedUpstream): 'http' | 'https' {
  return address.scheme === 'tls' ? 'https' : 'http';
}
