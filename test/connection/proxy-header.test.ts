import { isIPv6 } from 'node:net';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { socketEnd, type SocketEnd } from '../../src/connection/peer-address.js';
import {
  encodeProxyHeader,
  parseProxyHeader,
  type ProxyHeaderResult,
} from '../../src/connection/proxy-header.js';
import { MAX_PROXY_V1_BYTES, MAX_PROXY_V2_BYTES } from '../../src/limits.js';

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);

function v1(line: string): Buffer {
  return Buffer.from(line, 'latin1');
}

/** A version 2 header; `length` is that of the payload unless the test lies about it. */
function v2(versionCommand: number, family: number, payload: Buffer, length = payload.length): Buffer {
  return Buffer.concat([
    SIGNATURE,
    Buffer.from([versionCommand, family, length >> 8, length & 0xff]),
    payload,
  ]);
}

const IPV4_ENDS = Buffer.from([10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0x88, 0x27, 0x0f]);
const IPV4_MAPPED_ENDS = Buffer.concat([
  Buffer.from('00000000000000000000ffff0a000001', 'hex'),
  Buffer.from('00000000000000000000ffff0a000002', 'hex'),
  Buffer.from([0x13, 0x88, 0x27, 0x0f]),
]);
const IPV6_ENDS = Buffer.concat([
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from('fe800000000000000000000000000002', 'hex'),
  Buffer.from([0x13, 0x88, 0x27, 0x0f]),
]);
/** PP2_TYPE_NOOP of 300 bytes. */
const TLV = Buffer.concat([Buffer.from([4, 300 >> 8, 300 & 0xff]), Buffer.alloc(300)]);

/** Every beginning is incomplete; the whole is consumed to its length, whatever follows. */
function expectAtEveryByte(header: Buffer, source: SocketEnd | undefined): void {
  for (let length = 0; length < header.length; length++) {
    const { kind } = parseProxyHeader(header.subarray(0, length));
    if (kind !== 'incomplete') throw new Error(`${kind} after ${length} of ${header.length} bytes`);
  }
  const whole: ProxyHeaderResult = { kind: 'header', consumed: header.length, source };
  expect(parseProxyHeader(header)).toEqual(whole);
  expect(parseProxyHeader(Buffer.concat([header, Buffer.from('PRI * HTTP/2.0\r\n\r\n')]))).toEqual(whole);
}

describe('headers, split at every byte', () => {
  test.each<[string, Buffer, SocketEnd | undefined]>([
    ['v1 TCP4', v1('PROXY TCP4 10.0.0.1 10.0.0.2 5000 9999\r\n'), { address: '10.0.0.1', port: 5000 }],
    ['v1 TCP6', v1('PROXY TCP6 2001:db8::1 fe80::2 5000 9999\r\n'), { address: '2001:db8::1', port: 5000 }],
    [
      'v1 TCP6, mapped',
      v1('PROXY TCP6 ::ffff:10.0.0.1 ::ffff:10.0.0.2 5000 9999\r\n'),
      { address: '10.0.0.1', port: 5000 },
    ],
    ['v1 UNKNOWN', v1('PROXY UNKNOWN\r\n'), undefined],
    // Section 2.1: "the receiver must ignore anything presented before the CRLF is found".
    [
      'v1 UNKNOWN with addresses, the longest line there is',
      v1(`PROXY UNKNOWN ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`),
      undefined,
    ],
    ['v2 over IPv4', v2(0x21, 0x11, IPV4_ENDS), { address: '10.0.0.1', port: 5000 }],
    ['v2 over IPv6, mapped', v2(0x21, 0x21, IPV4_MAPPED_ENDS), { address: '10.0.0.1', port: 5000 }],
    ['v2 over IPv6', v2(0x21, 0x21, IPV6_ENDS), { address: '2001:db8::1', port: 5000 }],
    [
      'v2 over IPv4 with TLVs',
      v2(0x21, 0x11, Buffer.concat([IPV4_ENDS, TLV])),
      { address: '10.0.0.1', port: 5000 },
    ],
    [
      'v2 over IPv6 with TLVs',
      v2(0x21, 0x21, Buffer.concat([IPV6_ENDS, TLV])),
      { address: '2001:db8::1', port: 5000 },
    ],
    ['v2 LOCAL', v2(0x20, 0x00, Buffer.alloc(0)), undefined],
    ['v2 LOCAL with addresses, which do not count', v2(0x20, 0x11, IPV4_ENDS), undefined],
    ['v2 unspecified', v2(0x21, 0x00, Buffer.alloc(0)), undefined],
    ['v2 of a unix socket', v2(0x21, 0x31, Buffer.alloc(216)), undefined],
    [
      'v2 of the greatest length',
      v2(0x21, 0x11, Buffer.concat([IPV4_ENDS], MAX_PROXY_V2_BYTES - 16)),
      { address: '10.0.0.1', port: 5000 },
    ],
  ])('%s', (_name, header, source) => {
    expectAtEveryByte(header, source);
  });
});

describe('malformed', () => {
  test.each<[string, Buffer, RegExp]>([
    ['no header at all', Buffer.from('PRI * HTTP/2.0\r\n\r\n'), /does not start with a PROXY header/],
    ['a TLS handshake', Buffer.from([22, 3, 1, 0]), /does not start with a PROXY header/],
    ['v1 in lower case', v1('proxy TCP4'), /does not start with a PROXY header/],
    ['v1 without an end', v1(`PROXY TCP4 ${'1'.repeat(96)}`), /no CR LF within 107 bytes/],
    ['v1 that ends one byte late', v1(`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`), /no CR LF within 107 bytes/],
    ['v1 of another protocol', v1('PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n'), /must be TCP4, TCP6 or UNKNOWN/],
    ['v1 without a protocol', v1('PROXY \r\n'), /must be TCP4, TCP6 or UNKNOWN/],
    ['v1 IPv6 as TCP4', v1('PROXY TCP4 ::1 ::1 1 2\r\n'), /does not match its family/],
    ['v1 TCP6 with a zone', v1('PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n'), /has a zone/],
    ['v1 IPv4 as TCP6', v1('PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n'), /does not match its family/],
    ['v1 IPv4 out of range', v1('PROXY TCP4 10.0.0.256 10.0.0.2 1 2\r\n'), /does not match its family/],
    ['v1 with a bad destination', v1('PROXY TCP4 10.0.0.1 localhost 1 2\r\n'), /does not match its family/],
    ['v1 without addresses', v1('PROXY TCP4\r\n'), /does not match its family/],
    ['v1 with two spaces', v1('PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n'), /does not match its family/],
    ['v1 without ports', v1('PROXY TCP4 10.0.0.1 10.0.0.2\r\n'), /not a number from 0 to 65535/],
    [
      'v1 with a port too high',
      v1('PROXY TCP4 10.0.0.1 10.0.0.2 65536 2\r\n'),
      /not a number from 0 to 65535/,
    ],
    ['v1 with a negative port', v1('PROXY TCP4 10.0.0.1 10.0.0.2 -1 2\r\n'), /not a number from 0 to 65535/],
    ['v1 with a leading zero', v1('PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n'), /not a number from 0 to 65535/],
    [
      'v1 with a hexadecimal port',
      v1('PROXY TCP4 10.0.0.1 10.0.0.2 1 0x2\r\n'),
      /not a number from 0 to 65535/,
    ],
    ['v1 with a word too many', v1('PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n'), /more than six words/],
    ['v2 of version 1', v2(0x11, 0x11, IPV4_ENDS), /unknown version or command/],
    ['v2 with an unknown command', v2(0x22, 0x11, IPV4_ENDS), /unknown version or command/],
    ['v2 too short for IPv4', v2(0x21, 0x11, Buffer.alloc(11)), /too short for IPv4/],
    ['v2 too short for IPv6', v2(0x21, 0x21, Buffer.alloc(35)), /too short for IPv6/],
    ['v2 of UDP over IPv4', v2(0x21, 0x12, IPV4_ENDS), /the family must be/],
    ['v2 of an unknown family', v2(0x21, 0x41, IPV4_ENDS), /the family must be/],
    [
      'v2 that announces more than is taken, before it comes',
      v2(0x21, 0x11, Buffer.alloc(0), MAX_PROXY_V2_BYTES - 15),
      /longer than 4096 bytes/,
    ],
    ['v2 with a wrong byte in its signature', Buffer.from([0x0d, 0x0a, 0x0d, 0x0b]), /does not start/],
  ])('%s', (_name, header, detail) => {
    expect(parseProxyHeader(header)).toEqual({
      kind: 'malformed',
      detail: expect.stringMatching(detail) as string,
    });
  });

  test('a byte that differs is seen at once, wherever it stands', () => {
    for (const beginning of [SIGNATURE, Buffer.from('PROXY ')]) {
      for (let at = 0; at < beginning.length; at++) {
        const wrong = Buffer.from(beginning.subarray(0, at + 1));
        wrong[at] = 0xaa;
        expect(parseProxyHeader(wrong)).toMatchObject({ kind: 'malformed' });
      }
    }
  });
});

describe('a client has one address, however it is spelt', () => {
  test.each([
    ['2001:db8::1', ['2001:DB8::1', '2001:0db8::1', '2001:db8:0:0::0.0.0.1', '2001:db8:0:0:0:0:0:1']],
    ['10.0.0.1', ['::FFFF:a00:1', '0:0:0:0:0:ffff:0a00:0001', '::ffff:10.0.0.1']],
    ['::1', ['::0.0.0.1', '0::1', '0000:0000:0000:0000:0000:0000:0000:0001']],
  ])('%s', (address, spellings) => {
    for (const spelling of spellings) {
      const header = v1(`PROXY TCP6 ${spelling} fe80::2 5000 9999\r\n`);
      expect(parseProxyHeader(header), spelling).toMatchObject({ source: { address, port: 5000 } });
    }
  });

  test('also if a socket reports it; a zone is kept there', () => {
    expect(socketEnd('::ffff:10.0.0.1', 1)).toEqual({ address: '10.0.0.1', port: 1 });
    expect(socketEnd('::10.0.0.1', 1)).toEqual({ address: '::a00:1', port: 1 });
    expect(socketEnd('fe80::1%eth0', 1)).toEqual({ address: 'fe80::1%eth0', port: 1 });
  });
});

/** One text for each address: the URL standard's, which is RFC 5952's but for IPv4-mapped addresses. */
function canonical(address: string): string {
  return isIPv6(address) ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address;
}

const port = fc.integer({ min: 0, max: 65_535 });
const ipv4: fc.Arbitrary<SocketEnd> = fc.record({ address: fc.ipV4(), port });
const ipv6: fc.Arbitrary<SocketEnd> = fc.record({ address: fc.ipV6(), port });
const version = fc.constantFrom('v1' as const, 'v2' as const);

describe('what is encoded is parsed again', () => {
  test.each([
    ['IPv4', ipv4],
    ['IPv6', ipv6],
  ])('arbitrary %s addresses and ports', (_name, end) => {
    fc.assert(
      fc.property(
        version,
        end,
        end,
        fc.uint8Array({ maxLength: 64 }),
        (chosen, source, destination, rest) => {
          const header = encodeProxyHeader(chosen, source, destination);
          const parsed = parseProxyHeader(Buffer.concat([header, rest]));
          if (parsed.kind !== 'header' || !parsed.source) throw new Error(parsed.kind);
          expect(parsed.consumed).toBe(header.length);
          expect(canonical(parsed.source.address)).toBe(canonical(source.address));
          expect(parsed.source.port).toBe(source.port);
          if (chosen === 'v1') expect(header.length).toBeLessThanOrEqual(MAX_PROXY_V1_BYTES);
        },
      ),
    );
  });

  test('the destination stands where it belongs', () => {
    const source = { address: '2001:db8::1', port: 5000 };
    const destination = { address: 'fe80::2', port: 9999 };
    expect(encodeProxyHeader('v2', source, destination)).toEqual(v2(0x21, 0x21, IPV6_ENDS));
    expect(encodeProxyHeader('v1', source, destination).toString()).toBe(
      'PROXY TCP6 2001:db8::1 fe80::2 5000 9999\r\n',
    );
    const ends = [
      { address: '10.0.0.1', port: 5000 },
      { address: '10.0.0.2', port: 9999 },
    ] as const;
    expect(encodeProxyHeader('v2', ...ends)).toEqual(v2(0x21, 0x11, IPV4_ENDS));
    expect(encodeProxyHeader('v1', ...ends).toString()).toBe('PROXY TCP4 10.0.0.1 10.0.0.2 5000 9999\r\n');
  });

  test('of two families one is made: IPv4 is mapped into IPv6, and read as IPv4 again', () => {
    fc.assert(
      fc.property(version, ipv4, ipv6, (chosen, source, destination) => {
        const parsed = parseProxyHeader(encodeProxyHeader(chosen, source, destination));
        if (parsed.kind !== 'header' || !parsed.source) throw new Error(parsed.kind);
        expect(parsed.source.address).toBe(source.address);
      }),
    );
  });

  test('a zone, which means nothing elsewhere, is left out', () => {
    const end = { address: 'fe80::1%eth0', port: 1 };
    for (const chosen of ['v1', 'v2'] as const) {
      expect(parseProxyHeader(encodeProxyHeader(chosen, end, end))).toMatchObject({
        source: { address: 'fe80::1', port: 1 },
      });
    }
  });

  test.each(['v1', 'v2'] as const)('an unknown end: %s states that the address is unknown', (chosen) => {
    const end = { address: '10.0.0.1', port: 1 };
    expectAtEveryByte(encodeProxyHeader(chosen, undefined, undefined), undefined);
    expectAtEveryByte(encodeProxyHeader(chosen, end, undefined), undefined);
    expectAtEveryByte(encodeProxyHeader(chosen, undefined, end), undefined);
  });
});

test('an IPv6 address of version 2 is formatted as RFC 5952 requires', () => {
  const text = (hex: string): unknown => {
    const ends = Buffer.concat([Buffer.from(hex, 'hex'), Buffer.alloc(20)]);
    const parsed = parseProxyHeader(v2(0x21, 0x21, ends));
    return parsed.kind === 'header' ? parsed.source?.address : parsed;
  };
  expect(text('00000000000000000000000000000000')).toBe('::');
  expect(text('00000000000000000000000000000001')).toBe('::1');
  expect(text('00010000000000000000000000000000')).toBe('1::');
  expect(text('20010db8000000010000000000000001')).toBe('2001:db8:0:1::1');
  expect(text('20010db8000000000001000000000001')).toBe('2001:db8::1:0:0:1');
  expect(text('20010db8000000010001000100010001')).toBe('2001:db8:0:1:1:1:1:1');
});

test('arbitrary bytes never throw, and never ask for more than the bound', () => {
  const begun = (beginning: Buffer): fc.Arbitrary<Buffer> =>
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([beginning, bytes]));
  const bytes = fc.oneof(
    begun(Buffer.alloc(0)),
    begun(Buffer.from('PROXY ')),
    begun(Buffer.from('PROXY TCP4 ')),
    begun(SIGNATURE),
    begun(Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x11, 0])])),
    begun(Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x21, 0])])),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      const result = parseProxyHeader(input);
      if (result.kind === 'header') expect(result.consumed).toBeLessThanOrEqual(input.length);
      const padded = Buffer.concat([input, Buffer.alloc(MAX_PROXY_V2_BYTES)]);
      expect(parseProxyHeader(padded).kind).not.toBe('incomplete');
    }),
    { numRuns: 2000 },
  );
});
