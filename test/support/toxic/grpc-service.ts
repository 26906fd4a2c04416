import type { MethodDefinition } from '@grpc/grpc-js';

import { demoService } from '../../../src/commands/demo/demo-service.js';

function method(
  name: string,
  requestStream: boolean,
  responseStream: boolean,
): MethodDefinition<Buffer, Buffer> {
  return { ...demoService.echo, path: `/toxic.Exchange/${name}`, requestStream, responseStream };
}

/** One method of each kind: the upload in one message or many, the answer in one or many. */
export const exchangeService = {
  unary: method('Unary', false, false),
  serverStream: method('ServerStream', false, true),
  clientStream: method('ClientStream', true, false),
  bothStreams: method('BothStreams', true, true),
};

/** A message of a stream is up to so long. */
export const MESSAGE_BYTES_MAX = 60_000;
