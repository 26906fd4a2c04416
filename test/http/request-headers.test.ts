import { describe, expect, test } from 'vitest';

import { parseAddress } from '../../src/config/address.js';
import type { Address } from '../../src/config/model.js';
import type { HttpRequest } from '../../src/http/message.js';
import { upstreamHeader, type ClientDescription } from '../../src/http/request-headers.js';

const POST: HttpRequest = {
  protocol: 'http1',
  method: 'POST',
  url: '/a',
  httpVersion: '1.1',
  rawHeaders: [],
  hasContent: true,
  expectation: 'none',
};
const CLIENT: ClientDescription = {
  end: { address: '192.0.2.7', port: 5000 },
  scheme: 'https',
  host: 'gitlab',
  certificate: [],
};

function address(text: string): Address {
  const result = parseAddress(text, 'forward');
  if (!result.ok) throw new Error(`not an address: ${text}`);
  return result.value;
}

function header(
  request: Partial<HttpRequest>,
  client: Partial<ClientDescription> = {},
  forward = 'http://127.0.0.1:8181',
): Record<string, string | string[]> {
  return upstreamHeader({ ...POST, ...request }, { ...CLIENT, ...client }, address(forward));
}

describe('the framing of a request for upstream', () => {
  test.each<[string, Partial<HttpRequest>, Record<string, string>]>([
    ['the length that the client states', { rawHeaders: ['Content-Length', '3'] }, { 'content-length': '3' }],
    ['chunks without a length', {}, { 'transfer-encoding': 'chunked' }],
    ['the length 0 without content', { hasContent: false }, { 'content-length': '0' }],
    ['neither with GET', { method: 'GET', hasContent: false }, {}],
    [
      'chunks if trailers are announced beside a length',
      { rawHeaders: ['Content-Length', '3', 'Trailer', 'Digest'] },
      { 'transfer-encoding': 'chunked', trailer: 'Digest' },
    ],
    [
      'an expectation of 100 Continue',
      { expectation: 'continue', rawHeaders: ['Content-Length', '3', 'Expect', '100-Continue'] },
      { 'content-length': '3', expect: '100-continue' },
    ],
    [
      'an announcement that trailers are accepted',
      { rawHeaders: ['TE', 'gzip;q=0.5, Trailers'] },
      { 'transfer-encoding': 'chunked', connection: 'te, keep-alive', te: 'trailers' },
    ],
  ])('has %s', (_what, request, fields) => {
    const names = ['content-length', 'transfer-encoding', 'trailer', 'expect', 'connection', 'te'];
    const framing = Object.entries(header(request)).filter(([name]) => names.includes(name));
    expect(Object.fromEntries(framing)).toEqual(fields);
  });
});

describe('the facts about a client for upstream', () => {
  test.each<[string, Partial<ClientDescription>, Record<string, string>]>([
    ['IPv4', {}, { forwarded: 'for=192.0.2.7;host="gitlab";proto=https', 'x-forwarded-for': '192.0.2.7' }],
    [
      'IPv6, quoted in Forwarded alone',
      { end: { address: '2001:db8::1', port: 1 } },
      { forwarded: 'for="[2001:db8::1]";host="gitlab";proto=https', 'x-forwarded-for': '2001:db8::1' },
    ],
    ['a unix socket', { end: undefined }, { forwarded: 'for=unknown;host="gitlab";proto=https' }],
    [
      'a loopback address, which another host could take for its own',
      { end: { address: '127.0.0.2', port: 1 } },
      { forwarded: 'for=unknown;host="gitlab";proto=https' },
    ],
  ])('are those of %s', (_what, client, fields) => {
    const sent = header({}, client);
    const { forwarded, 'x-forwarded-for': address } = sent;
    expect({ forwarded, ...(address && { 'x-forwarded-for': address }) }).toEqual(fields);
    expect(sent).toMatchObject({ 'x-forwarded-host': 'gitlab', 'x-forwarded-proto': 'https' });
  });

  test('are never those that the client sends itself', () => {
    const forged = ['X-Forwarded-For', 'x_forwarded_for', 'Forwarded', 'X-Real-IP', 'X-SSL-Client-Verify'];
    const sent = header({ rawHeaders: forged.flatMap((name) => [name, 'forged']) });
    expect(JSON.stringify(sent)).not.toContain('forged');
  });

  test('have its certificate', () => {
    expect(header({}, { certificate: [['x-ssl-client-verify', 'SUCCESS']] })).toMatchObject({
      'x-ssl-client-verify': 'SUCCESS',
    });
  });
});

test.each([
  ['http://127.0.0.1:8181', 'gitlab', 'gitlab'],
  ['http://127.0.0.1:8181', undefined, '127.0.0.1:8181'],
  ['https://gitlab.example.com', 'other', 'gitlab.example.com'],
])('the Host for %s is, if the client names %s: %s', (forward, host, expected) => {
  expect(header({}, { host }, forward)['host']).toBe(expected);
});

test('upstream gets the end-to-end fields, joined cookies, and Via with the proxy behind earlier ones', () => {
  const sent = header({
    protocol: 'http2',
    httpVersion: '2.0',
    rawHeaders: [
      ':path',
      '/a',
      'cookie',
      'a=1',
      'X',
      'y',
      'cookie',
      'b=2',
      'keep-alive',
      '5',
      'via',
      '1.1 lb',
    ],
  });
  expect(sent).toMatchObject({ x: 'y', cookie: 'a=1; b=2', via: '1.1 lb, 2.0 gitaly-tls-proxy' });
  expect(Object.keys(sent)).not.toContain('keep-alive');
  expect(Object.keys(sent)).not.toContain(':path');
});
