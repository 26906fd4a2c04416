import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';

/** A method whose messages are plain bytes: the demo needs no schema. */
function method(
  path: string,
  requestStream: boolean,
  responseStream: boolean,
): MethodDefinition<Buffer, Buffer> {
  const asIs = (message: Buffer): Buffer => message;
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

/** `grpc.health.v1.Health`, the check that `gitlab-rake gitlab:gitaly:check` makes. */
export const healthService = {
  check: method('/grpc.health.v1.Health/Check', false, false),
} satisfies ServiceDefinition;

/** An empty `HealthCheckRequest`: the server as a whole. */
export const HEALTH_REQUEST = Buffer.alloc(0);

/** `HealthCheckResponse { status: SERVING }`: field 1, varint 1. */
export const HEALTH_SERVING = Buffer.from([0x08, 0x01]);

/** `gitaly.ServerService`, by which `check` recognises Gitaly. */
export const serverService = {
  serverInfo: method('/gitaly.ServerService/ServerInfo', false, false),
} satisfies ServiceDefinition;

/** `ServerInfoResponse { server_version: "demo", git_version: "none" }`: fields 1 and 2, strings of 4 bytes; no storage. */
export const SERVER_INFO = Buffer.from('\n\u0004demo\u0012\u0004none', 'latin1');

/** One method of each kind that Gitaly has. */
export const demoService = {
  /** Unary: answers with the request. */
  echo: method('/gitaly_tls_proxy.demo.DemoService/Echo', false, false),
  /** Server stream: answers with the request 10 times. */
  repeat: method('/gitaly_tls_proxy.demo.DemoService/Repeat', false, true),
  /** Client stream: answers with the number of received bytes, in decimal. */
  count: method('/gitaly_tls_proxy.demo.DemoService/Count', true, false),
} satisfies ServiceDefinition;

/** The number of answers of `repeat`. */
export const REPEATS = 10;
