import type { CallAnswer, GrpcConnection } from './grpc-connection.js';
import { readFields, type ProtobufField } from './protobuf.js';

const SERVER_INFO = '/gitaly.ServerService/ServerInfo';
const EMPTY = Buffer.alloc(0);

/** What a Gitaly says of itself: `ServerInfoResponse` of its server.proto. */
export interface ServerInfo {
  readonly serverVersion: string;
  readonly gitVersion: string;
  readonly storages: readonly {
    readonly name: string;
    readonly readable: boolean;
    readonly writeable: boolean;
  }[];
}

/** Asks; what was answered is read by `readServerInfo`. Rejects with a `CallFailure` where there is no answer. */
export function callServerInfo(
  connection: GrpcConnection,
  timeoutMs: number,
  authorization?: string,
): Promise<CallAnswer> {
  return connection.call(SERVER_INFO, EMPTY, timeoutMs, authorization);
}

/** `undefined` if the bytes are something else. */
export function readServerInfo(response: Buffer): ServerInfo | undefined {
  const fields = readFields(response);
  if (fields === undefined) return undefined;
  const storages = fields.flatMap(({ number, value }) => {
    const inner = number === 3 && typeof value !== 'number' ? readFields(value) : undefined;
    if (inner === undefined) return [];
    return [{ name: text(inner, 1), readable: flag(inner, 2), writeable: flag(inner, 3) }];
  });
  return { serverVersion: text(fields, 1), gitVersion: text(fields, 2), storages };
}

function text(fields: readonly ProtobufField[], wanted: number): string {
  const value = fields.findLast(({ number }) => number === wanted)?.value;
  return typeof value === 'object' ? value.toString('utf8') : '';
}

function flag(fields: readonly ProtobufField[], wanted: number): boolean {
  return fields.findLast(({ number }) => number === wanted)?.value === 1;
}
