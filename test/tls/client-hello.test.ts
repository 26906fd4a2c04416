import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { MAX_CLIENT_HELLO_BYTES } from '../../src/limits.js';
import { ClientHelloReader, type ClientHello, type ClientHelloResult } from '../../src/tls/client-hello.js';
import { HAS_OPENSSL, inRecords, recordNode, recordOpenssl } from './recorded-client-hello.js';

const H2 = { serverName: 'gitaly-a.internal', alpn: ['h2'] };

function parse(bytes: Buffer): ClientHelloResult {
  return new ClientHelloReader().read(bytes);
}

/** Every beginning is incomplete, also for a reader that has seen those before, and the whole is `hello`, whatever follows. */
function expectAtEveryByte(bytes: Buffer, hello: ClientHello): void {
  const whole = { kind: 'hello', hello, length: bytes.length };
  const reader = new ClientHelloReader();
  for (let length = 0; length < bytes.length; length++) {
    const beginning = bytes.subarray(0, length);
    for (const result of [parse(beginning), reader.read(beginning)])
      if (result.kind !== 'incomplete') throw new Error(`${result.kind} after ${length} of ${bytes.length}`);
  }
  expect(reader.read(bytes)).toEqual(whole);
  expect(parse(bytes)).toEqual(whole);
  expect(parse(Buffer.concat([bytes, Buffer.from([20, 3, 3, 0, 1, 1])]))).toEqual(whole);
}

describe('ClientHellos recorded from Node', () => {
  test.each([
    ['TLS 1.3', { minVersion: 'TLSv1.3' }],
    ['TLS 1.2', { maxVersion: 'TLSv1.2' }],
    ['TLS 1.0', { minVersion: 'TLSv1', maxVersion: 'TLSv1', ciphers: 'ALL@SECLEVEL=0' }],
    ['both', {}],
  ] as const)('%s, split at every byte', async (_name, options) => {
    const bytes = await recordNode({ servername: H2.serverName, ALPNProtocols: ['h2'], ...options });
    expectAtEveryByte(bytes, H2);
  });

  test('protocols keep their order', async () => {
    const bytes = await recordNode({ servername: 'a', ALPNProtocols: ['http/1.1', 'h2', 'grpc-exp'] });
    expect(parse(bytes)).toMatchObject({
      kind: 'hello',
      hello: { serverName: 'a', alpn: ['http/1.1', 'h2', 'grpc-exp'] },
    });
  });

  test('no ALPN and no server name are distinguished from empty ones', async () => {
    expect(parse(await recordNode({ servername: '' }))).toMatchObject({
      kind: 'hello',
      hello: { serverName: undefined, alpn: undefined },
    });
  });

  test('a handshake message may span records of any lengths', async () => {
    const bytes = await recordNode({ servername: H2.serverName, ALPNProtocols: ['h2'] });
    expectAtEveryByte(inRecords(bytes, [1, 2, 1, 100]), H2);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 40 }), (lengths) => {
        expect(parse(inRecords(bytes, lengths))).toMatchObject({ kind: 'hello', hello: H2 });
      }),
    );
  });

  test('one with a changed byte never throws', async () => {
    const bytes = await recordNode({ servername: H2.serverName, ALPNProtocols: ['h2'] });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 0, max: 255 }), (at, value) => {
        const broken = Buffer.from(bytes);
        broken[at] = value;
        expect(['incomplete', 'malformed', 'not_tls', 'hello']).toContain(parse(broken).kind);
      }),
      { numRuns: 1000 },
    );
  });
});

describe.skipIf(!HAS_OPENSSL)('ClientHellos recorded from openssl s_client', () => {
  test.each([
    ['ALPN and a name', ['-alpn', 'h2', '-servername', H2.serverName], H2],
    ['TLS 1.2', ['-tls1_2', '-alpn', 'h2', '-servername', H2.serverName], H2],
    ['no ALPN', ['-servername', H2.serverName], { ...H2, alpn: undefined }],
    ['no name', ['-noservername', '-alpn', 'h2'], { ...H2, serverName: undefined }],
  ])('%s', async (_name, options, hello) => {
    expectAtEveryByte(await recordOpenssl(...options), hello);
  });
});

describe('bytes that are not a ClientHello:', () => {
  test.each([
    ['an HTTP/2 preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
    ['the backchannel magic', Buffer.from('backchannel')],
    ['HTTP/1', Buffer.from('GET / HTTP/1.1\r\n')],
    ['an alert record', Buffer.from([21, 3, 1, 0, 2, 2, 40])],
    ['a major version other than 3', Buffer.from([22, 2, 0, 0, 1, 1])],
  ])('%s is not TLS', (_name, bytes) => {
    expect(parse(bytes)).toEqual({ kind: 'not_tls' });
  });

  test.each([
    ['an empty record', Buffer.from([22, 3, 1, 0, 0])],
    ['a record above 2^14', Buffer.from([22, 3, 1, 0x40, 1])],
    ['another handshake message', Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0])],
    ['a message that ends within its random', Buffer.from([22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3])],
    ['another content type within the message', Buffer.from([22, 3, 1, 0, 4, 1, 0, 0, 9, 23, 3, 3, 0, 1])],
    ['a message above the bound', Buffer.from([22, 3, 1, 0, 4, 1, 1, 0, 0])],
    ['another message behind it in its record', Buffer.from([22, 3, 1, 0, 6, 1, 0, 0, 1, 3, 2])],
  ])('%s is malformed', (_name, bytes) => {
    expect(parse(bytes)).toMatchObject({ kind: 'malformed' });
  });

  test('a ClientHello without extensions is one', () => {
    const body = Buffer.concat([
      Buffer.from([3, 3]),
      Buffer.alloc(32),
      Buffer.from([0, 0, 2, 0x13, 1, 1, 0]),
    ]);
    const message = Buffer.concat([Buffer.from([1, 0, 0, body.length]), body]);
    const bytes = Buffer.concat([Buffer.from([22, 3, 1, 0, message.length]), message]);
    expect(parse(bytes)).toMatchObject({
      kind: 'hello',
      hello: { serverName: undefined, alpn: undefined },
    });
  });
});

test('records of one byte that come one byte at a time are read once each', () => {
  const record = Buffer.from([22, 3, 1, 0, 1, 0]);
  const bytes = Buffer.concat(Array<Buffer>(Math.ceil(MAX_CLIENT_HELLO_BYTES / record.length)).fill(record));
  // A message of 32 000 bytes, of which these are the first 5462.
  [1, 0, 0x7d, 0].forEach((value, index) => (bytes[index * record.length + 5] = value));
  const reader = new ClientHelloReader();
  let length = 1;
  while (reader.read(bytes.subarray(0, length)).kind === 'incomplete') length++;
  expect(length).toBe(MAX_CLIENT_HELLO_BYTES + 1);
});

describe('whatever comes', () => {
  test('arbitrary bytes never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), (bytes) => {
        parse(Buffer.from(bytes));
        // The interesting half: what looks like a record to begin with.
        parse(Buffer.concat([Buffer.from([22, 3, 1]), bytes]));
        parse(Buffer.concat([Buffer.from([22, 3, 1, 1, 0, 1, 0, 0, 252]), bytes]));
      }),
      { numRuns: 2000 },
    );
  });

  test.each([1, 2, 3, 5, 64])(
    'records of %i bytes never ask for more than the bound, wherever the bytes are cut',
    (length) => {
      const record = Buffer.concat([Buffer.from([22, 3, 1, 0, length]), Buffer.alloc(length)]);
      const count = Math.ceil((2 * MAX_CLIENT_HELLO_BYTES) / record.length);
      const bytes = Buffer.concat(Array<Buffer>(count).fill(record));
      // The longest message that is accepted, its four bytes of header in the first records.
      const header = [1, 0, 0x7f, 0xfc];
      header.forEach((value, index) => {
        bytes[Math.floor(index / length) * record.length + 5 + (index % length)] = value;
      });
      for (let extra = 1; extra <= record.length; extra++) {
        const result = parse(bytes.subarray(0, MAX_CLIENT_HELLO_BYTES + extra));
        expect(result).toMatchObject({ kind: 'malformed' });
      }
    },
  );
});
