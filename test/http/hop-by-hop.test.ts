import { describe, expect, test } from 'vitest';

import {
  endToEnd,
  foreignCodings,
  isProxysOwn,
  oneLineEach,
  outgoing,
  passedTrailers,
  plainName,
  type HeaderField,
} from '../../src/http/hop-by-hop.js';

/** The names of fields that pass, out of these with the value `x`. */
function passing(...names: string[]): string[] {
  return endToEnd(names.map((name): HeaderField => [name, 'x'])).map(([name]) => name);
}

describe('hop-by-hop fields', () => {
  test('are removed, end-to-end fields are kept in their order', () => {
    const hopByHop = ['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade'];
    const proxy = ['proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'http2-settings'];
    expect(passing('a', ...hopByHop, 'b', ...proxy, 'content-type')).toEqual(['a', 'b', 'content-type']);
  });

  test('are removed under names that a CGI server reads alike', () => {
    expect(passing('transfer_encoding', 'transfer.encoding', 'keep_alive', 'transfer', 'ok_name')).toEqual([
      'transfer',
      'ok_name',
    ]);
  });

  test('that Connection names are removed, whatever their case and number', () => {
    const fields: HeaderField[] = [
      ['connection', 'close, X-One'],
      ['connection', 'x-two'],
      ['x-one', '1'],
      ['x-two', '2'],
      ['x-three', '3'],
    ];
    expect(endToEnd(fields)).toEqual([['x-three', '3']]);
  });
});

test.each([
  ['chunked', []],
  ['Chunked', []],
  ['gzip, chunked', ['gzip']],
  ['chunked, identity', ['identity']],
  [' x , ', ['x']],
])('transfer codings besides chunked in %j', (value, codings) => {
  expect(foreignCodings([['transfer-encoding', value]])).toEqual(codings);
});

describe('fields that only the proxy may set', () => {
  test.each([
    'x-forwarded-for',
    'x_forwarded_for',
    'x.forwarded.for',
    'x-forwarded',
    'x-forwarded-anything',
    'x-ssl-client-verify',
    'forwarded',
    'x-real-ip',
    'client_ip',
    'x-original-url',
  ])('%s is one of them', (name) => expect(isProxysOwn(plainName(name))).toBe(true));

  test.each(['x-forwardedness', 'x-ssl-clients', 'x-request-id', 'gitlab-shell-api-request', 'host'])(
    '%s is not one of them',
    (name) => expect(isProxysOwn(plainName(name))).toBe(false),
  );
});

test('lines of one name are joined for HTTP/2, those of Set-Cookie are not', () => {
  const fields: HeaderField[] = [
    ['a', '1'],
    ['set-cookie', 'x=1'],
    ['a', '2'],
    ['set-cookie', 'y=2'],
  ];
  expect(oneLineEach(fields)).toEqual([
    ['a', '1, 2'],
    ['set-cookie', 'x=1'],
    ['set-cookie', 'y=2'],
  ]);
});

test('lines of one name are grouped for Node, and a field named __proto__ is a field', () => {
  const fields = outgoing([
    ['a', '1'],
    ['a', '2'],
    ['a', '3'],
    ['__proto__', 'x'],
  ]);
  expect(Object.entries(fields)).toEqual([
    ['a', ['1', '2', '3']],
    ['__proto__', 'x'],
  ]);
});

test('trailers pass, except fields of framing, routing, authentication, content, and those of the proxy', () => {
  const refused = [
    'Content-Length',
    'Transfer-Encoding',
    'Host',
    'Authorization',
    'Private-Token',
    'Set_Cookie',
  ];
  const own = ['X-Forwarded-For', 'Gitlab_Shell_Api_Request'];
  const raw = [...refused, ...own, 'Grpc-Status', 'Digest'].flatMap((name) => [name, 'x']);
  expect(passedTrailers(raw)).toEqual([
    ['grpc-status', 'x'],
    ['digest', 'x'],
  ]);
});
