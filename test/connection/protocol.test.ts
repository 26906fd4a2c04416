import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { describeUnknown, protocolOf, type Protocol } from '../../src/connection/protocol.js';
import { HTTP2_PREFACE_BYTES } from '../../src/limits.js';

const BEGINNINGS: readonly [Protocol, Buffer][] = [
  ['http2', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
  ['backchannel', Buffer.from('backchannel')],
];

describe.each(BEGINNINGS)('%s', (protocol, beginning) => {
  test('is known with its last byte and not before', () => {
    for (let length = 0; length < beginning.length; length++)
      expect(protocolOf(beginning.subarray(0, length))).toBeUndefined();
    expect(protocolOf(beginning)).toBe(protocol);
  });

  test('the bytes behind the preface do not matter', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (rest) => {
        expect(protocolOf(Buffer.concat([beginning, rest]))).toBe(protocol);
      }),
    );
  });

  test('any other byte, at any offset, is seen at once', () => {
    for (let at = 0; at < beginning.length; at++) {
      for (let value = 0; value < 256; value++) {
        const bytes = Buffer.from(beginning.subarray(0, at + 1));
        bytes[at] = value;
        const begins = BEGINNINGS.some(([, other]) => other.subarray(0, at + 1).equals(bytes));
        const whole = Buffer.concat([bytes, beginning.subarray(at + 1)]);
        const seen = [protocolOf(bytes), protocolOf(whole)].map((result) => result === 'unknown');
        if (seen[0] === begins || (!begins && !seen[1])) throw new Error(`byte ${value} at ${at}`);
      }
    }
  });
});

test('no more than the preface is ever asked for', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: HTTP2_PREFACE_BYTES, maxLength: 64 }), (bytes) => {
      expect(protocolOf(Buffer.from(bytes))).toBeDefined();
    }),
  );
});

describe('how other first bytes are described', () => {
  test.each([
    [Buffer.from([0x16, 3, 1, 0]), 'a TLS handshake: this listener is plaintext, or TLS is wrapped in TLS'],
    [Buffer.from('GET / HTTP/1.1\r\n'), 'HTTP/1'],
    [Buffer.from('OPTIONS * HTTP/1.1'), 'HTTP/1'],
    [
      Buffer.from('PROXY TCP4 '),
      'a PROXY header, from an address that proxy_protocol.accept_from does not list',
    ],
    [
      Buffer.from('\r\n\r\n\0'),
      'a PROXY header, from an address that proxy_protocol.accept_from does not list',
    ],
    [Buffer.from('SSH-2.0-x'), 'neither an HTTP/2 preface nor the backchannel magic'],
    [Buffer.alloc(0), 'neither an HTTP/2 preface nor the backchannel magic'],
  ])('%s', (bytes, text) => {
    expect(describeUnknown(bytes)).toBe(text);
  });

  test('never the bytes themselves', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 24 }), (bytes) => {
        const texts = [
          'a TLS handshake: this listener is plaintext, or TLS is wrapped in TLS',
          'HTTP/1',
          'a PROXY header, from an address that proxy_protocol.accept_from does not list',
          'neither an HTTP/2 preface nor the backchannel magic',
        ];
        expect(texts).toContain(describeUnknown(Buffer.from(bytes)));
      }),
    );
  });
});
