import { fileURLToPath } from 'node:url';

import { type MethodDefinition, type ServiceDefinition, status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { z } from 'zod';

const root = protobuf.loadSync(fileURLToPath(new URL('test-service.proto', import.meta.url)));

/** A message: fields that have their default value may be absent. */
interface Message<Fields> {
  encode(fields: Fields): Buffer;
  decode(bytes: Buffer): Fields;
}

function message<Shape extends z.ZodRawShape>(
  name: string,
  shape: Shape,
): Message<z.output<z.ZodObject<Shape>>> {
  const type = root.lookupType(`grpc.testing.${name}`);
  const fields = z.strictObject(shape);
  return {
    encode: (value) => Buffer.from(type.encode(type.fromObject(value)).finish()),
    decode: (bytes) => fields.parse(type.toObject(type.decode(bytes))),
  };
}

const int32 = z.int32().optional();
const payload = z.strictObject({ type: int32, body: z.instanceof(Buffer).optional() }).optional();
const echoStatus = z
  .strictObject({ code: z.enum(status).optional(), message: z.string().optional() })
  .optional();
const responseParameters = z.strictObject({ size: int32, intervalUs: int32 });

const empty = message('Empty', {});
const simpleRequest = message('SimpleRequest', {
  responseType: int32,
  responseSize: int32,
  payload,
  responseStatus: echoStatus,
  fillServerId: z.boolean().optional(),
});
const simpleResponse = message('SimpleResponse', { payload, serverId: z.string().optional() });
const inputRequest = message('StreamingInputCallRequest', { payload });
const inputResponse = message('StreamingInputCallResponse', { aggregatedPayloadSize: int32 });
const outputRequest = message('StreamingOutputCallRequest', {
  responseType: int32,
  responseParameters: z.array(responseParameters).optional(),
  payload,
  responseStatus: echoStatus,
});
const outputResponse = message('StreamingOutputCallResponse', { payload });

type EventFields<M> = M extends Message<infer Fields> ? Fields : never;
export type Empty = EventFields<typeof empty>;
export type SimpleRequest = EventFields<typeof simpleRequest>;
export type SimpleResponse = EventFields<typeof simpleResponse>;
export type StreamingInputCallRequest = EventFields<typeof inputRequest>;
export type StreamingInputCallResponse = EventFields<typeof inputResponse>;
export type StreamingOutputCallRequest = EventFields<typeof outputRequest>;
export type StreamingOutputCallResponse = EventFields<typeof outputResponse>;

/** The only `PayloadType`: bytes that are all zero. */
export const COMPRESSABLE = 0;

function method<Request, Response>(
  path: string,
  [request, response]: readonly [Message<Request>, Message<Response>],
  [requestStream, responseStream]: readonly [boolean, boolean] = [false, false],
): MethodDefinition<Request, Response> {
  return {
    path: `/grpc.testing.${path}`,
    requestStream,
    responseStream,
    requestSerialize: (value) => request.encode(value),
    requestDeserialize: (bytes) => request.decode(bytes),
    responseSerialize: (value) => response.encode(value),
    responseDeserialize: (bytes) => response.decode(bytes),
  };
}

/** What the interoperability server serves. */
export const testService = {
  emptyCall: method('TestService/EmptyCall', [empty, empty]),
  unaryCall: method('TestService/UnaryCall', [simpleRequest, simpleResponse]),
  streamingInputCall: method('TestService/StreamingInputCall', [inputRequest, inputResponse], [true, false]),
  streamingOutputCall: method(
    'TestService/StreamingOutputCall',
    [outputRequest, outputResponse],
    [false, true],
  ),
  fullDuplexCall: method('TestService/FullDuplexCall', [outputRequest, outputResponse], [true, true]),
} satisfies ServiceDefinition;

/** What it does not serve: a method of its service, and one of another. */
export const unimplemented = {
  method: method('TestService/UnimplementedCall', [empty, empty]),
  service: method('UnimplementedService/UnimplementedCall', [empty, empty]),
};
