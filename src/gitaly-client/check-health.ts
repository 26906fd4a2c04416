import type { CallResult, GrpcClient } from './grpc-client.js';
import { readMessage, WIRE_TYPE } from './protobuf.js';

const CHECK = '/grpc.health.v1.Health/Check';

/** An empty `HealthCheckRequest`: the server as a whole. */
const WHOLE_SERVER = Buffer.alloc(0);

/** `HealthCheckResponse.ServingStatus`. */
const SERVING_STATUSES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

/** The result of a health check. `words` describes it. */
export type Health =
  | { readonly kind: 'serving' }
  /** Gitaly with `[auth] token` returns this for a call without a token or with an invalid one. */
  | { readonly kind: 'wants_token'; readonly words: string }
  /** This proxy returns this to a client without a valid certificate. Gitaly does not use client certificates. */
  | { readonly kind: 'refuses_certificate'; readonly words: string }
  | { readonly kind: 'not_serving'; readonly words: string }
  /** The server speaks gRPC, but does not implement the health service. */
  | { readonly kind: 'unknown_service'; readonly words: string }
  | { readonly kind: 'error'; readonly words: string };

/** Makes the same check as `gitlab-rake gitlab:gitaly:check`. Rejects with a `CallFailure` if the server does not respond. */
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
  if (status === undefined) return { kind: 'error', words: 'the response is not a HealthCheckResponse' };
  const name = SERVING_STATUSES[status] ?? String(status);
  return name === 'SERVING' ? { kind: 'serving' } : { kind: 'not_serving', words: name };
}

/** Returns the status of a `HealthCheckResponse`, or `undefined` if the bytes are not one. */
export function readServingStatus(response: Buffer): number | undefined {
  let status = 0;
  const read = readMessage(response, {
    1: [WIRE_TYPE.varint, (reader) => (status = reader.int32())],
  });
  return read ? status : undefined;
}
