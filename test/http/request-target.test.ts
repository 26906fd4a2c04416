import { describe, expect, test } from 'vitest';

import type { HttpRequest } from '../../src/http/message.js';
import { pathOf, requestTarget } from '../../src/http/request-target.js';

const GET: HttpRequest = {
  protocol: 'http1',
  method: 'GET',
  url: '/a?b=c',
  httpVersion: '1.1',
  rawHeaders: ['Host', 'gitlab'],
  hasContent: false,
  expectation: 'none',
};

describe('the target of a request', () => {
  test.each<[string, Partial<HttpRequest>, string, string | undefined]>([
    ['a path and a Host', {}, '/a?b=c', 'gitlab'],
    ['a Host with a port', { rawHeaders: ['HOST', 'gitlab:8443'] }, '/a?b=c', 'gitlab:8443'],
    ['the absolute form', { url: 'http://GITLAB/x' }, '/x', 'gitlab'],
    ['the absolute form without a path', { url: 'https://gitlab?q' }, '/?q', 'gitlab'],
    ['HTTP/1.0 without Host', { httpVersion: '1.0', rawHeaders: [] }, '/a?b=c', undefined],
    ['OPTIONS *', { method: 'OPTIONS', url: '*' }, '*', 'gitlab'],
    [
      'HTTP/2 with the same :authority and Host',
      {
        protocol: 'http2',
        httpVersion: '2.0',
        rawHeaders: [':authority', 'g', ':scheme', 'https', 'host', 'G'],
      },
      '/a?b=c',
      'g',
    ],
  ])('is read from %s', (_what, request, path, host) => {
    const target = requestTarget({ ...GET, ...request });
    expect(target?.path).toBe(path);
    expect(target?.host?.toLowerCase()).toBe(host);
  });

  test.each<[string, Partial<HttpRequest>]>([
    ['two Host fields, even if they are the same', { rawHeaders: ['Host', 'gitlab', 'host', 'gitlab'] }],
    ['HTTP/1.1 without Host', { rawHeaders: [] }],
    ['a Host that is not a host', { rawHeaders: ['Host', 'a/b'] }],
    ['an absolute form that names another host', { url: 'http://other/x' }],
    ['the authority form', { url: 'gitlab:443' }],
    ['a fragment', { url: '/a#b' }],
    ['a space', { url: '/a b' }],
    ['a byte above ASCII', { url: '/\u00e9' }],
    ['* with a method other than OPTIONS', { url: '*' }],
    ['an empty target', { url: '' }],
    [
      'HTTP/2 with another :authority than Host',
      { protocol: 'http2', rawHeaders: [':authority', 'a', ':scheme', 'https', 'host', 'b'] },
    ],
    [
      'HTTP/2 with a scheme other than http and https',
      { protocol: 'http2', rawHeaders: [':authority', 'a', ':scheme', 'ftp'] },
    ],
  ])('is refused with %s', (_what, request) => {
    expect(requestTarget({ ...GET, ...request })).toBeUndefined();
  });

  test('is logged without its query, which may contain secrets', () => {
    expect(pathOf({ path: '/a/b?private_token=secret?x', host: 'gitlab' })).toBe('/a/b');
  });
});
