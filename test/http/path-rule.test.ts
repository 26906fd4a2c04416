import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { isBelow } from '../../src/http/reason-to-refuse.js';

const GATE = ['/api/v4/internal/'];

describe('below /api/v4/internal/', () => {
  test.each([
    '/api/v4/internal/',
    '/api/v4/internal/allowed',
    '/api/v4/internal/file%2etxt',
    '/api/v4/internal/group%2Fproject',
    '/api/v4/internal//allowed',
    '/api/v4/internal/./allowed',
    '/api/v4/internal/..allowed',
    '/api/v4/internal/allowed..',
    '/api/v4/internal/100%25',
    '/api/v4/internal/caf%C3%A9',
    '/api/v4/internal/a;x=1/b%3Fc%23d',
    '/api/v4/internal/a%20b..?',
  ])('is %s', (path) => {
    expect(isBelow(path, GATE)).toBe(true);
  });

  test.each([
    '/',
    '*',
    '',
    '/api/v4/internal',
    '/api/v4/internalallowed',
    '/API/v4/internal/allowed',
    '/api/v4/users',
    // Beginnings that some server reads as another path.
    '//api/v4/internal/allowed',
    '/./api/v4/internal/allowed',
    '/x/../api/v4/internal/allowed',
    '/api%2fv4/internal/allowed',
    '/%61pi/v4/internal/allowed',
    '\\api\\v4\\internal\\allowed',
    'http://gitlab/api/v4/internal/allowed',
    // Ways out.
    '/api/v4/internal/../users',
    '/api/v4/internal/..',
    '/api/v4/internal//..//../users',
    '/api/v4/internal/%2e%2e/users',
    '/api/v4/internal/%2E./users',
    '/api/v4/internal/.%2e/users',
    '/api/v4/internal/..%2fusers',
    '/api/v4/internal/..%2Fusers',
    '/api/v4/internal%2f../users',
    '/api/v4/internal/%2f..%2fusers',
    '/api/v4/internal/..\\users',
    '/api/v4/internal/..%5cusers',
    '/api/v4/internal/..;/users',
    '/api/v4/internal/..;a=b/users',
    '/api/v4/internal/..%3b/users',
    // A server that decodes the path before it looks for `?` and `#`.
    '/api/v4/internal/..%3f',
    '/api/v4/internal/..%3fx/users',
    '/api/v4/internal/..%23',
    '/api/v4/internal/..%2523',
    '/api/v4/internal/%2e%2e%253F/users',
    // A server that trims segments, or takes their streams off (NTFS).
    '/api/v4/internal/..%20/users',
    '/api/v4/internal/%20../users',
    '/api/v4/internal/..%C2%A0/users',
    '/api/v4/internal/..%3a%3a$INDEX_ALLOCATION/users',
    '/api/v4/internal/..,/users',
    // Compatibility characters: fullwidth full stop, solidus and reverse solidus, two dot leader, one dot leader.
    '/api/v4/internal/%EF%BC%8E%EF%BC%8E/users',
    '/api/v4/internal/..%EF%BC%8Fusers',
    '/api/v4/internal/..%EF%BC%BCusers',
    '/api/v4/internal/%E2%80%A5/users',
    '/api/v4/internal/%E2%80%A4%E2%80%A4/users',
    '/api/v4/internal/%252e%252e/users',
    '/api/v4/internal/..%252fusers',
    '/api/v4/internal/%25252e%25252e/users',
    '/api/v4/internal/%2525252e%2525252e/users',
    '/api/v4/internal/x%00/users',
    '/api/v4/internal/x%2500',
    '/api/v4/internal/\0',
    '/api/v4/internal/x%0d%0a',
    '/api/v4/internal/%7f',
    // Overlong UTF-8 of `.` and `/`, and other bytes that are not UTF-8.
    '/api/v4/internal/%c0%ae%c0%ae/users',
    '/api/v4/internal/..%c0%afusers',
    '/api/v4/internal/%ff',
    '/api/v4/internal/%2',
    '/api/v4/internal/%zz',
    '/api/v4/internal/%u002e%u002e/users',
  ])('is not %j', (path) => {
    expect(isBelow(path, GATE)).toBe(false);
  });
});

test('a prefix without a slash at its end is a whole segment', () => {
  expect(isBelow('/api', ['/api'])).toBe(true);
  expect(isBelow('/api/v4', ['/api'])).toBe(true);
  expect(isBelow('/apiary', ['/api'])).toBe(false);
});

test('any of several prefixes will do', () => {
  expect(isBelow('/b/c', ['/a/', '/b/'])).toBe(true);
});

/** How a server may read a path: the number of decodings, the characters that count as slashes, the part that is cut off. */
function read(
  path: string,
  decodings: number,
  backslashes: boolean,
  parameters: boolean,
  merge: boolean,
  delimiters: boolean,
): string {
  let text = path;
  for (let decoding = 0; decoding < decodings; decoding++)
    text = text.replace(/%([0-9a-f]{2})/giu, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 16)),
    );
  if (delimiters) text = text.split(/[?#]/u, 1)[0] ?? '';
  if (backslashes) text = text.replaceAll('\\', '/');
  if (merge) text = text.replace(/\/+/gu, '/');
  const segments: string[] = [];
  for (const written of text.split('/').slice(1)) {
    const segment = parameters ? (written.split(';', 1)[0] ?? '') : written;
    if (segment === '..') segments.pop();
    else if (segment !== '.') segments.push(segment);
  }
  return `/${segments.join('/')}`;
}

test('whatever is let through is below the prefix for every reader', () => {
  const piece = fc.constantFrom(
    '/',
    '//',
    '.',
    '..',
    '%2e',
    '%2f',
    '%5c',
    '\\',
    ';',
    '%3b',
    '%3f',
    '%23',
    '%20',
    '%25',
    '%252e',
    '%252f',
    '%25252e',
    'a',
    'users',
    '%00',
    '%c0%ae',
    '5c',
    '2e',
    '2f',
  );
  const path = fc.array(piece, { maxLength: 12 }).map((pieces) => `/api/v4/internal/${pieces.join('')}`);
  fc.assert(
    fc.property(
      path,
      fc.nat({ max: 3 }),
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      (text, decodings, backslashes, parameters, merge, delimiters) => {
        fc.pre(isBelow(text, GATE));
        expect(`${read(text, decodings, backslashes, parameters, merge, delimiters)}/`).toMatch(
          /^\/api\/v4\/internal\//,
        );
      },
    ),
    { numRuns: 3000 },
  );
});

test('a path of 16 KiB that decodes on and on costs little', () => {
  const path = `/api/v4/internal/${'%25'.repeat(5_000)}2e`;
  const startedAtMs = performance.now();
  isBelow(path, GATE);
  expect(performance.now() - startedAtMs).toBeLessThan(100);
});
