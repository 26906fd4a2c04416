import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  Metadata,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
  type StatusObject,
} from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';

import { acceptEither } from '../../../src/commands/demo/demo-backend.js';
import {
  COMPRESSABLE,
  type Empty,
  type SimpleRequest,
  type SimpleResponse,
  type StreamingInputCallRequest,
  type StreamingInputCallResponse,
  type StreamingOutputCallRequest,
  type StreamingOutputCallResponse,
  testService,
} from './test-service.js';

/** The metadata that a server sends back, in its header and in its trailer. */
export const ECHO_INITIAL = 'x-grpc-test-echo-initial';
export const ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin';

/**
 * Starts gRPC's interoperability server as its description says (doc/interop-test-descriptions.md of
 * github.com/grpc/grpc), made of grpc-js. One port takes plain gRPC and the backchannel; what to forward to. It ends with
 * the test.
 */
export async function startInteropServer(): Promise<string> {
  const grpc = new Server();
  const serverId = randomUUID();
  grpc.addService(testService, {
    emptyCall: (call: ServerUnaryCall<Empty, Empty>, done: sendUnaryData<Empty>) =>
      done(null, {}, echoMetadata(call)),
    unaryCall: (call: ServerUnaryCall<SimpleRequest, SimpleResponse>, done: sendUnaryData<SimpleResponse>) =>
      unaryCall(call, serverId, done),
    streamingInputCall,
    streamingOutputCall,
    fullDuplexCall,
  });
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const server = createServer({ noDelay: true }, (connection) => {
    onTestFinished(() => void connection.destroy());
    acceptEither(connection, injector);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    grpc.forceShutdown();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return `tcp://127.0.0.1:${address.port}`;
}

type Call = Pick<ServerUnaryCall<unknown, unknown>, 'metadata' | 'sendMetadata'>;

/** "The server sends back exactly this key and the corresponding value": the header at once; the trailer is returned. */
function echoMetadata(call: Call): Metadata {
  const header = new Metadata();
  for (const value of call.metadata.get(ECHO_INITIAL)) header.add(ECHO_INITIAL, value);
  if (Object.keys(header.getMap()).length > 0) call.sendMetadata(header);
  const trailer = new Metadata();
  for (const value of call.metadata.get(ECHO_TRAILING)) trailer.add(ECHO_TRAILING, value);
  return trailer;
}

/** Why a request is not answered with messages: it asks for a status, or for what there is not. */
function refusal(
  { responseStatus, responseType }: SimpleRequest | StreamingOutputCallRequest,
  metadata: Metadata,
): StatusObject | undefined {
  const code = responseStatus?.code ?? status.OK;
  if (code !== status.OK) return { code, details: responseStatus?.message ?? '', metadata };
  if ((responseType ?? COMPRESSABLE) === COMPRESSABLE) return undefined;
  return { code: status.INVALID_ARGUMENT, details: 'the response_type is unknown', metadata };
}

function unaryCall(
  call: ServerUnaryCall<SimpleRequest, SimpleResponse>,
  serverId: string,
  done: sendUnaryData<SimpleResponse>,
): void {
  const trailer = echoMetadata(call);
  const { responseSize, fillServerId } = call.request;
  const response = {
    payload: { body: Buffer.alloc(responseSize ?? 0) },
    ...(fillServerId === true && { serverId }),
  };
  const refused = refusal(call.request, trailer);
  if (refused) done(refused);
  else done(null, response, trailer);
}

function streamingInputCall(
  call: ServerReadableStream<StreamingInputCallRequest, StreamingInputCallResponse>,
  done: sendUnaryData<StreamingInputCallResponse>,
): void {
  const trailer = echoMetadata(call);
  let aggregatedPayloadSize = 0;
  call.on('data', ({ payload }: StreamingInputCallRequest) => {
    aggregatedPayloadSize += payload?.body?.length ?? 0;
  });
  call.on('end', () => done(null, { aggregatedPayloadSize }, trailer));
}

function streamingOutputCall(
  call: ServerWritableStream<StreamingOutputCallRequest, StreamingOutputCallResponse>,
): void {
  const trailer = echoMetadata(call);
  const refused = refusal(call.request, trailer);
  if (refused) call.emit('error', refused);
  else void sendResponses(call, call.request).then(() => call.end(trailer));
}

function fullDuplexCall(
  call: ServerDuplexStream<StreamingOutputCallRequest, StreamingOutputCallResponse>,
): void {
  const trailer = echoMetadata(call);
  /** Responses are sent in the order of their requests. "The server will not process any further messages" of a refused call. */
  let sending = Promise.resolve();
  let refused: StatusObject | undefined;
  call.on('data', (request: StreamingOutputCallRequest) => {
    if (refused) return;
    refused = refusal(request, trailer);
    sending = sending.then(() => (refused ? void call.emit('error', refused) : sendResponses(call, request)));
  });
  call.on('end', () => {
    if (!refused) void sending.then(() => call.end(trailer));
  });
}

async function sendResponses(
  call: Pick<ServerWritableStream<unknown, StreamingOutputCallResponse>, 'write'>,
  request: StreamingOutputCallRequest,
): Promise<void> {
  for (const { size, intervalUs } of request.responseParameters ?? []) {
    if (intervalUs !== undefined) await delay(intervalUs / 1000);
    call.write({ payload: { body: Buffer.alloc(size ?? 0) } });
  }
}
