import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { clientHeader, clientTrailers, hasContent, isEndless } from '../../src/http/response-headers.js';

function answer(statusCode: number, ...rawHeaders: string[]): IncomingMessage {
  return Object.assign(new IncomingMessage(new Socket()), { statusCode, rawHeaders });
}

describe('the header of an answer for the client', () => {
  test.each<[string, IncomingMessage, boolean, Record<string, string>]>([
    [
      'keeps the length',
      answer(200, 'Content-Length', '3', 'Connection', 'close'),
      false,
      { 'content-length': '3' },
    ],
    ['has no length with 204', answer(204, 'Content-Length', '0', 'X', 'y'), false, { x: 'y' }],
    ['has the length 0 with 205', answer(205, 'Content-Length', '7'), false, { 'content-length': '0' }],
    ['announces trailers that can follow', answer(200, 'Trailer', 'Digest'), true, { trailer: 'Digest' }],
    [
      'announces no trailers to a client that cannot receive them',
      answer(200, 'Trailer', 'Digest'),
      false,
      {},
    ],
    [
      'announces no trailers behind content of a stated length',
      answer(200, 'Trailer', 'Digest', 'Content-Length', '3'),
      true,
      { 'content-length': '3' },
    ],
  ])('%s', (_what, received, takesTrailers, header) => {
    expect(clientHeader(received, 'http1', takesTrailers)).toEqual(header);
  });

  test('has one line for each name over HTTP/2, and all lines over HTTP/1.1', () => {
    const received = answer(200, 'A', '1', 'Set-Cookie', 'x', 'a', '2', 'set-cookie', 'y');
    expect(clientHeader(received, 'http2', false)).toEqual({ a: '1, 2', 'set-cookie': ['x', 'y'] });
    expect(clientHeader(received, 'http1', false)).toEqual({ a: ['1', '2'], 'set-cookie': ['x', 'y'] });
  });
});

test('the trailers of an answer pass without fields of framing', () => {
  expect(clientTrailers(['Digest', 'x', 'Content-Length', '9'], 'http2')).toEqual({ digest: 'x' });
});

test.each([
  [200, 'GET', true],
  [404, 'POST', true],
  [200, 'HEAD', false],
  [204, 'GET', false],
  [205, 'GET', false],
  [304, 'GET', false],
])('content after the header of a %i to %s: %s', (status, method, expected) =>
  expect(hasContent(status, method)).toBe(expected),
);

test.each([
  ['neither a length nor chunks', [], true],
  ['a length', ['Content-Length', '0'], false],
  ['chunks', ['Transfer-Encoding', 'gzip, Chunked'], false],
  ['a last coding other than chunked', ['Transfer-Encoding', 'chunked, gzip'], true],
])('an answer with %s ends with its connection: %s', (_what, headers, expected) =>
  expect(isEndless(answer(200, ...headers))).toBe(expected),
);
