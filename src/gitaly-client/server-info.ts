import type { CallResult, GrpcClient } from './grpc-client.js';
import { readMessage, readString, WIRE_TYPE } from './protobuf.js';

const SERVER_INFO = '/gitaly.ServerService/ServerInfo';
const EMPTY = Buffer.alloc(0);

/** The fields of `ServerInfoResponse` (server.proto of Gitaly) that are used here. */
export interface ServerInfo {
  readonly serverVersion: string;
  readonly gitVersion: string;
  readonly storages: readonly Storage[];
}

interface Storage {
  readonly name: string;
  readonly readable: boolean;
  readonly writeable: boolean;
}

/** Calls ServerInfo; `readServerInfo` parses the response. Rejects with a `CallFailure` if the server does not respond. */
export function callServerInfo(
  connection: GrpcClient,
  timeoutMs: number,
  authorization?: string,
): Promise<CallResult> {
  return connection.call(SERVER_INFO, EMPTY, timeoutMs, authorization);
}

/** Returns `undefined` if the bytes are not a `ServerInfoResponse`. */
export function readServerInfo(response: Buffer): ServerInfo | undefined {
  let serverVersion = '';
  let gitVersion = '';
  const storages: Storage[] = [];
  const read = readMessage(response, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => (serverVersion = readString(reader))],
    2: [WIRE_TYPE.lengthDelimited, (reader) => (gitVersion = readString(reader))],
    3: [WIRE_TYPE.lengthDelimited, (reader) => storages.push(...readStorage(reader.bytes()))],
  });
  return read ? { serverVersion, gitVersion, storages } : undefined;
}

function readStorage(message: Uint8Array): Storage[] {
  const storage = { name: '', readable: false, writeable: false };
  const read = readMessage(message, {
    1: [WIRE_TYPE.lengthDelimited, (reader) => (storage.name = readString(reader))],
    2: [WIRE_TYPE.varint, (reader) => (storage.readable = reader.bool())],
    3: [WIRE_TYPE.varint, (reader) => (storage.writeable = reader.bool())],
  });
  return read ? [storage] : [];
}
