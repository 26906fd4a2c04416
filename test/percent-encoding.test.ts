import fc from 'fast-check';
import { expect, test } from 'vitest';

import { percentDecoded, percentEncoded } from '../src/percent-encoding.js';

test('printable ASCII except the percent sign is unchanged, everything else is %XX of its UTF-8', () => {
  expect(percentEncoded('CN=a b, 100 %\n„ü')).toBe('CN=a b, 100 %25%0A%E2%80%9E%C3%BC');
});

test('decoding returns what was encoded', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      expect(percentDecoded(percentEncoded(text))).toBe(text);
    }),
  );
});

test('an invalid encoding is returned unchanged', () => {
  expect(percentDecoded('100 % and %zz')).toBe('100 % and %zz');
});
