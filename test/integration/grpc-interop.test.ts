import { describe, expect, test } from 'vitest';

import { interopCases } from '../support/interop/cases.js';
import { failuresOfGrpcJs, PROTOCOLS } from '../support/interop/client.js';
import { startInteropServer } from '../support/interop/server.js';
import { startWay, WAYS } from '../support/interop/way.js';

const CASES = Object.keys(interopCases);

describe.each(PROTOCOLS)('interoperability of grpc-js, %s', (protocol) => {
  test.each(WAYS)('every case of gRPC passes %s', async (way) => {
    const to = await startWay(way, await startInteropServer());
    expect(await failuresOfGrpcJs(to.server, protocol, CASES, to.ca?.pem)).toEqual([]);
    await to.end(protocol, CASES.length);
  });
});
