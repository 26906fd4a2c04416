import { type Client, Metadata, type ServiceError, status } from '@grpc/grpc-js';

/** The outcome of a call: its gRPC status code and message. */
export interface CallOutcome {
  readonly code: status;
  readonly details: string;
}

/** Makes a unary call with a message in bytes, whatever its method. */
export function callUnary(
  client: Client,
  path: string,
  message: Buffer = Buffer.alloc(0),
  metadata: Readonly<Record<string, string>> = {},
): Promise<CallOutcome> {
  const sent = new Metadata();
  for (const [name, value] of Object.entries(metadata)) sent.set(name, value);
  const bytes = (value: Buffer): Buffer => value;
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, bytes, bytes, message, sent, (error: ServiceError | null) =>
      resolve(error ? { code: error.code, details: error.details } : { code: status.OK, details: '' }),
    );
  });
}
