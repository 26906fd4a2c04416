import { expect, test } from 'vitest';

import type { HttpRequest } from '../../src/http/message.js';
import { reasonToRefuse } from '../../src/http/reason-to-refuse.js';
import type { RefusalReason } from '../../src/http/refusal.js';
import { requestTarget } from '../../src/http/request-target.js';
import { MAX_HEADER_FIELDS } from '../../src/limits.js';

const POST: HttpRequest = {
  protocol: 'http1',
  method: 'POST',
  url: '/api/v4/internal/allowed',
  httpVersion: '1.1',
  rawHeaders: ['Host', 'gitlab'],
  hasContent: true,
  expectation: 'none',
};

function withFields(...fields: string[]): Partial<HttpRequest> {
  return { rawHeaders: [...POST.rawHeaders, ...fields] };
}

const http2: Partial<HttpRequest> = { protocol: 'http2', httpVersion: '2.0' };

test.each<[string, Partial<HttpRequest>, RefusalReason | undefined]>([
  ['POST to an allowed path', {}, undefined],
  ['chunked content', withFields('Transfer-Encoding', 'Chunked'), undefined],
  ['HTTP/1.0', { httpVersion: '1.0' }, undefined],
  ['GET without content', { method: 'GET', hasContent: false }, undefined],
  ['as many fields as allowed', withFields(...manyFields(MAX_HEADER_FIELDS - 1)), undefined],
  ['one field more', withFields(...manyFields(MAX_HEADER_FIELDS)), 'header_too_large'],
  ['HTTP/0.9', { httpVersion: '0.9' }, 'version'],
  ['HTTP/2.0 stated on an HTTP/1.1 connection', { httpVersion: '2.0' }, 'version'],
  [
    'HTTP/1.0 with chunks',
    { httpVersion: '1.0', ...withFields('Transfer-Encoding', 'chunked') },
    'malformed',
  ],
  ['another transfer coding', withFields('Transfer-Encoding', 'gzip, chunked'), 'transfer_coding'],
  ['chunked twice', withFields('Transfer-Encoding', 'chunked', 'Transfer-Encoding', 'chunked'), 'malformed'],
  ['an unknown expectation', { expectation: 'unknown' }, 'expectation'],
  ['CONNECT', { method: 'CONNECT' }, 'method'],
  ['TRACE', { method: 'TRACE' }, 'method'],
  ['an unknown method', { method: 'BREW' }, 'method'],
  ['no Host', { rawHeaders: [] }, 'malformed'],
  ['GET with content', { method: 'GET' }, 'malformed'],
  [
    'GET over HTTP/2 that states a length',
    { ...http2, method: 'GET', rawHeaders: [':authority', 'gitlab', 'content-length', '3'] },
    'malformed',
  ],
  [
    'GET over HTTP/2 that may have content and states no length',
    { ...http2, method: 'GET', rawHeaders: [':authority', 'gitlab'] },
    undefined,
  ],
  ['a path that is not allowed', { url: '/api/v4/projects' }, 'path'],
  ['a path that leaves the allowed one', { url: '/api/v4/internal/%2e%2e/projects' }, 'path'],
  ['a query that looks like a path', { url: '/api/v4/internal/check?/../x' }, undefined],
])('%s: the reason to refuse a request, if any', (_what, changes, reason) => {
  const request = { ...POST, ...changes };
  expect(reasonToRefuse(request, requestTarget(request), ['/api/v4/internal'])).toBe(reason);
});

test('without `paths` every path is allowed', () => {
  const request = { ...POST, url: '/anything' };
  expect(reasonToRefuse(request, requestTarget(request), undefined)).toBeUndefined();
});

function manyFields(count: number): string[] {
  return Array.from({ length: count }, (_, index) => [`X-${index}`, 'x']).flat();
}
