import type { CallResult, GrpcClient } from './grpc-client.js';
import { readMessage, WIRE_TYPE } from './protobuf.js';

const CHECK = '/grpc.health.v1.Health/Check';

/** An empty `HealthCheckRequest`: the server as a whole. */
const WHOLE_SERVER = Buffer.alloc(0);

/** `HealthCheckResponse.ServingStatus`. */
const SERVING_STATUSES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

/** What a health check came to, in words. */
export type Health =
  | { readonly kind: 'serving' }
  /** A Gitaly with `[auth] token` answers this to a call without a token or with a wrong one. */
  | { readonly kind: 'wants_token'; readonly words: string }
  /** Our proxy answers this to a client without a valid certificate. Gitaly does not use client certificates. */
  | { readonly kind: 'refuses_certificate'; readonly words: string }
  | { readonly kind: 'not_serving'; readonly words: string }
  /** It answers gRPC and knows no health check. */
  | { readonly kind: 'unknown_service'; readonly words: string }
  | { readonly kind: 'error'; readonly words: string };

/**
 * Makes the check that `gitlab-rake gitlab:gitaly:check` makes. Rejects with a `CallFailure` where there is no answer.
 */
export async function checkHealth(
  connection: GrpcClient,
  timeoutMs: number,
  authorization?: string,
): Promise<Health> {
  return healthOf(await connection.call(CHECK, WHOLE_SERVER, timeoutMs, authorization));
}

function healthOf({ code, message, response }: CallResult): Health {
  const words = `${code}${message === '' ? '' : `: ${message}`}`;
  switch (code) {
    case 'OK':
      break;
    case 'Unauthenticated':
    case 'PermissionDenied':
      return { kind: /certificate/iu.test(message) ? 'refuses_certificate' : 'wants_token', words };
    case 'Unimplemented':
      return { kind: 'unknown_service', words };
    default:
      return { kind: 'error', words };
  }
  const status = response && readServingStatus(response);
  if (status === undefined) return { kind: 'error', words: 'the answer is not a HealthCheckResponse' };
  const name = SERVING_STATUSES[status] ?? String(status);
  return name === 'SERVING' ? { kind: 'serving' } : { kind: 'not_serving', words: name };
}

/** `HealthCheckResponse`: its status. */
export function readServingStatus(response: Buffer): number | undefined {
  let status = 0;
  const read = readMessage(response, {
    1: [WIRE_TYPE.varint, (reader) => (status = reader.int32())],
  });
  return read ? status : undefined;
}
