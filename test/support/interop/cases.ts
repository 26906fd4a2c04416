import { type CallOptions, type Client, Metadata, type MethodDefinition, status } from '@grpc/grpc-js';
import { expect } from 'vitest';

import { type Outcome, streamOutcome, unaryOutcome } from './outcome.js';
import { ECHO_INITIAL, ECHO_TRAILING } from './server.js';
import {
  type Empty,
  type SimpleRequest,
  type SimpleResponse,
  testService,
  unimplemented,
} from './test-service.js';

/** Bytes of the messages of the streaming cases, in their order, and of the large ones. */
const REQUEST_BYTES = [27182, 8, 1828, 45904];
const RESPONSE_BYTES = [31415, 9, 2653, 58979];
const LARGE_REQUEST_BYTES = 271828;
const LARGE_RESPONSE_BYTES = 314159;
const UNKNOWN_MESSAGE = 'test status message';
const SPECIAL_MESSAGE = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const INITIAL_VALUE = 'test_initial_metadata_value';
const TRAILING_VALUE = Buffer.from('ababab', 'hex');

/**
 * gRPC's interoperability cases by their names, each as its description says (doc/interop-test-descriptions.md of
 * github.com/grpc/grpc), by grpc-js: those that need no account at Google and no caching proxy, and whose messages a
 * library compresses or not as it likes. Each rejects with what was not as it should be.
 */
export const interopCases: Readonly<Record<string, (client: Client) => Promise<void>>> = {
  async empty_unary(client) {
    const { messages, status: last } = await unary(client, testService.emptyCall, {});
    expect(last.code).toBe(status.OK);
    expect(messages).toEqual([{}]);
  },

  async large_unary(client) {
    expectLarge(await unary(client, testService.unaryCall, largeRequest()));
  },

  async client_streaming(client) {
    const { path, requestSerialize, responseDeserialize } = testService.streamingInputCall;
    const { messages, status: last } = await unaryOutcome((done) => {
      const call = client.makeClientStreamRequest(path, requestSerialize, responseDeserialize, done);
      for (const bytes of REQUEST_BYTES) call.write({ payload: zeros(bytes) });
      call.end();
      return call;
    });
    expect(last.code).toBe(status.OK);
    expect(messages).toEqual([{ aggregatedPayloadSize: 74922 }]);
  },

  async server_streaming(client) {
    const { path, requestSerialize, responseDeserialize } = testService.streamingOutputCall;
    const request = { responseParameters: RESPONSE_BYTES.map((size) => ({ size })) };
    const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    expectPayloads(await streamOutcome(call), RESPONSE_BYTES);
  },

  async ping_pong(client) {
    const call = fullDuplex(client);
    const ping = (index: number): void => {
      const [size, bytes] = [RESPONSE_BYTES[index], REQUEST_BYTES[index]];
      if (bytes === undefined) call.end();
      else call.write({ responseParameters: [{ size }], payload: zeros(bytes) });
    };
    ping(0);
    expectPayloads(await streamOutcome(call, (index) => ping(index + 1)), RESPONSE_BYTES);
  },

  async empty_stream(client) {
    const call = fullDuplex(client);
    call.end();
    expectPayloads(await streamOutcome(call), []);
  },

  async custom_metadata(client) {
    const metadata = new Metadata();
    metadata.set(ECHO_INITIAL, INITIAL_VALUE);
    metadata.set(ECHO_TRAILING, TRAILING_VALUE);
    const answered = await unary(client, testService.unaryCall, largeRequest(), metadata);
    expectLarge(answered);
    const call = fullDuplex(client, metadata);
    call.write({
      responseParameters: [{ size: LARGE_RESPONSE_BYTES }],
      payload: zeros(LARGE_REQUEST_BYTES),
    });
    call.end();
    const streamed = await streamOutcome(call);
    expectPayloads(streamed, [LARGE_RESPONSE_BYTES]);
    for (const { header, status: last } of [answered, streamed]) {
      expect(header?.get(ECHO_INITIAL)).toEqual([INITIAL_VALUE]);
      expect(last.metadata.get(ECHO_TRAILING)).toEqual([TRAILING_VALUE]);
    }
  },

  async status_code_and_message(client) {
    const responseStatus = { code: status.UNKNOWN, message: UNKNOWN_MESSAGE };
    const answered = await unary(client, testService.unaryCall, { responseStatus });
    const call = fullDuplex(client);
    call.write({ responseStatus });
    call.end();
    const streamed = await streamOutcome(call);
    for (const { status: last } of [answered, streamed])
      expect([last.code, last.details]).toEqual([status.UNKNOWN, UNKNOWN_MESSAGE]);
  },

  async special_status_message(client) {
    const responseStatus = { code: status.UNKNOWN, message: SPECIAL_MESSAGE };
    const { status: last } = await unary(client, testService.unaryCall, { responseStatus });
    expect([last.code, last.details]).toEqual([status.UNKNOWN, SPECIAL_MESSAGE]);
  },

  async unimplemented_method(client) {
    const { status: last } = await unary(client, unimplemented.method, {});
    expect(last.code).toBe(status.UNIMPLEMENTED);
  },

  async unimplemented_service(client) {
    const { status: last } = await unary(client, unimplemented.service, {});
    expect(last.code).toBe(status.UNIMPLEMENTED);
  },

  async cancel_after_begin(client) {
    const { path, requestSerialize, responseDeserialize } = testService.streamingInputCall;
    const { status: last } = await unaryOutcome((done) => {
      const call = client.makeClientStreamRequest(path, requestSerialize, responseDeserialize, done);
      // "After metadata has been sent": in the same turn grpc-js would send none, and Node 20 may keep the reset to itself.
      setImmediate(() => call.cancel());
      return call;
    });
    expect(last.code).toBe(status.CANCELLED);
  },

  async cancel_after_first_response(client) {
    const call = fullDuplex(client);
    call.write({ responseParameters: [{ size: 31415 }], payload: zeros(27182) });
    const { status: last } = await streamOutcome(call, () => call.cancel());
    expect(last.code).toBe(status.CANCELLED);
  },

  async timeout_on_sleeping_server(client) {
    const call = fullDuplex(client, new Metadata(), { deadline: Date.now() + 1 });
    call.write({ payload: zeros(27182) });
    const { status: last } = await streamOutcome(call);
    // Both ends have a timer: where grpc-go's server is first, it resets with CANCEL, which grpc-js tells as CANCELLED.
    expect([status.DEADLINE_EXCEEDED, status.CANCELLED]).toContain(last.code);
  },

  async pick_first_unary(client) {
    const serverIds = new Set<string | undefined>();
    for (let made = 0; made < 100; made++) {
      const { messages } = await unary(client, testService.unaryCall, {
        responseSize: 1,
        fillServerId: true,
      });
      serverIds.add(messages[0]?.serverId);
    }
    expect([...serverIds]).toEqual([expect.any(String)]);
  },
};

function zeros(bytes: number): { readonly body: Buffer } {
  return { body: Buffer.alloc(bytes) };
}

function largeRequest(): SimpleRequest {
  return { responseSize: LARGE_RESPONSE_BYTES, payload: zeros(LARGE_REQUEST_BYTES) };
}

function unary<Request extends SimpleRequest | Empty, Response>(
  client: Client,
  { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, Response>,
  request: Request,
  metadata = new Metadata(),
): Promise<Outcome<Response>> {
  return unaryOutcome((done) =>
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, done),
  );
}

function fullDuplex(client: Client, metadata = new Metadata(), options: CallOptions = {}) {
  const { path, requestSerialize, responseDeserialize } = testService.fullDuplexCall;
  return client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, options);
}

function expectLarge(outcome: Outcome<SimpleResponse>): void {
  expectPayloads(outcome, [LARGE_RESPONSE_BYTES]);
}

/** The call was successful, and its messages hold so many zeros each. */
function expectPayloads({ messages, status: last }: Outcome<SimpleResponse>, sizes: readonly number[]): void {
  expect([last.code, last.details]).toEqual([status.OK, expect.any(String)]);
  const bodies = messages.map(({ payload }) => payload?.body ?? Buffer.alloc(0));
  expect(bodies.map((body) => body.length)).toEqual(sizes);
  expect(bodies.every((body) => body.equals(Buffer.alloc(body.length)))).toBe(true);
}
