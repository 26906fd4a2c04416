import fc from 'fast-check';
import { expect, test } from 'vitest';

import { readServerFlight } from '../../src/gitaly-client/server-flight.js';

function message(type: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, 0, body.length >> 8, body.length & 0xff]), body]);
}

function record(type: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, 3, 3, content.length >> 8, content.length & 0xff]), content]);
}

/** Of TLS 1.2: no session, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, no extensions. */
const SERVER_HELLO = message(
  2,
  Buffer.concat([Buffer.from([3, 3]), Buffer.alloc(32), Buffer.from([0, 0xc0, 0x2f, 0])]),
);
const LEAF = Buffer.from('leaf');
const ISSUER = Buffer.from('issuer');
const CERTIFICATE = message(
  11,
  Buffer.concat([Buffer.from([0, 0, 16, 0, 0, 4]), LEAF, Buffer.from([0, 0, 6]), ISSUER]),
);
const CERTIFICATE_REQUEST = message(13, Buffer.from([1, 1, 0, 2, 4, 3, 0, 0]));
const DONE = message(14, Buffer.alloc(0));

test('certificates and the request for one are read from TLS 1.2', () => {
  const flight = Buffer.concat([SERVER_HELLO, CERTIFICATE, CERTIFICATE_REQUEST, DONE]);
  expect(readServerFlight(record(22, flight), undefined)).toMatchObject({
    version: 'TLSv1.2',
    certificates: [LEAF, ISSUER],
    asksForCertificate: true,
  });
});

test('no request is known for none once the flight is over, and not before', () => {
  const whole = record(22, Buffer.concat([SERVER_HELLO, CERTIFICATE, DONE]));
  expect(readServerFlight(whole, undefined).asksForCertificate).toBe(false);
  const part = record(22, Buffer.concat([SERVER_HELLO, CERTIFICATE]));
  expect(readServerFlight(part, undefined).asksForCertificate).toBeUndefined();
});

test('messages may be cut into records anywhere', () => {
  const flight = Buffer.concat([SERVER_HELLO, CERTIFICATE, CERTIFICATE_REQUEST, DONE]);
  for (let at = 1; at < flight.length; at++) {
    const bytes = Buffer.concat([record(22, flight.subarray(0, at)), record(22, flight.subarray(at))]);
    expect(readServerFlight(bytes, undefined)).toMatchObject({
      certificates: [LEAF, ISSUER],
      asksForCertificate: true,
    });
  }
});

test('bytes that are not TLS yield no facts', () => {
  const seen = readServerFlight(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), undefined);
  expect(seen).toMatchObject({ version: undefined, certificates: [], asksForCertificate: undefined });
});

test('arbitrary bytes neither make it throw nor loop forever', () => {
  const records = fc
    .tuple(fc.constantFrom(20, 21, 22, 23), fc.uint8Array({ maxLength: 200 }))
    .map(([type, content]) => record(type, Buffer.from(content)));
  const messages = fc
    .tuple(fc.constantFrom(2, 11, 13, 20), fc.uint8Array({ maxLength: 120 }))
    .map(([type, body]) => record(22, message(type, Buffer.from(body))));
  const secret = Buffer.alloc(32, 7);
  fc.assert(
    fc.property(fc.array(fc.oneof(records, messages), { maxLength: 6 }), (parts) => {
      readServerFlight(Buffer.concat(parts), secret);
    }),
  );
});
