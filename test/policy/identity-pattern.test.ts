import { describe, expect, it, test } from 'vitest';

import { identityCheck, readIdentityPattern } from '../../src/policy/identity-pattern.js';

function matches(pattern: string, identity: string): boolean {
  const read = readIdentityPattern(pattern);
  if (typeof read === 'string') throw new Error(read);
  return read.matches(identity);
}

describe('a pattern names', () => {
  it.each([
    // DNS names without regard to case, and to a trailing dot.
    ['dns:rails.gitlab.internal', 'dns:rails.gitlab.internal'],
    ['dns:RAILS.gitlab.internal', 'dns:rails.GitLab.internal'],
    ['dns:rails.gitlab.internal.', 'dns:rails.gitlab.internal'],
    ['dns:rails.gitlab.internal', 'dns:rails.gitlab.internal.'],
    ['dns:rails-*.gitlab.internal', 'dns:rails-1.gitlab.internal'],
    ['dns:*.gitlab.internal', 'dns:rails.gitlab.internal'],
    ['dns:*.gitlab.internal', 'dns:*.gitlab.internal'],
    ['dns:**.gitlab.internal', 'dns:a.b.gitlab.internal'],
    ['dns:a*b*c.internal', 'dns:aXbYbZc.internal'],
    // URIs with scheme and host without regard to case.
    ['uri:spiffe://corp/ns/gitlab/sa/rails', 'uri:SPIFFE://Corp/ns/gitlab/sa/rails'],
    ['uri:spiffe://corp/ns/*/sa/rails', 'uri:spiffe://corp/ns/gitlab/sa/rails'],
    ['uri:spiffe://corp/ns/gitlab/**', 'uri:spiffe://corp/ns/gitlab/sa/rails'],
    ['uri:spiffe://*.corp.example/rails', 'uri:spiffe://eu.corp.example/rails'],
    ['uri:spiffe://**.corp.example/rails', 'uri:spiffe://a.b.corp.example/rails'],
    ['uri:urn:uuid:*', 'uri:urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66'],
    // Addresses, not texts.
    ['ip:10.0.0.1', 'ip:10.0.0.1'],
    ['ip:10.0.0.0/8', 'ip:10.200.3.4'],
    ['ip:2001:DB8:0:0::1', 'ip:2001:db8::1'],
    ['ip:2001:db8::/32', 'ip:2001:db8:ffff::1'],
    ['ip:10.0.0.1', 'ip:::ffff:a00:1'],
    // The domain of a mail address without regard to case.
    ['email:ops@corp.example', 'email:ops@CORP.example'],
    ['email:*@corp.example', 'email:ops@corp.example'],
    // Attributes of the subject (RFC 4519 section 2.3).
    ['cn:Rails', 'cn:rails'],
    ['cn:rails-*', 'cn:rails-7'],
    ['ou:Gitaly clients', 'ou:gitaly clients'],
    ['*', 'cn:anything'],
  ])('%s: %s', (pattern, identity) => {
    expect(matches(pattern, identity)).toBe(true);
  });
});

describe('a pattern does not name', () => {
  it.each([
    ['dns:rails.gitlab.internal', 'cn:rails.gitlab.internal'],
    ['cn:rails', 'ou:rails'],
    ['dns:*.gitlab.internal', 'dns:a.b.gitlab.internal'],
    ['dns:*.gitlab.internal', 'dns:gitlab.internal'],
    ['dns:**.gitlab.internal', 'dns:evilgitlab.internal'],
    ['dns:rails.gitlab.internal', 'dns:rails.gitlab.internal.evil'],
    ['dns:rails.gitlab.internal', 'dns:railsXgitlab.internal'],
    ['uri:spiffe://corp/ns/*', 'uri:spiffe://corp/ns/gitlab/rails'],
    ['uri:spiffe://corp/ns/gitlab/**', 'uri:spiffe://corp/ns/gitlab'],
    ['uri:spiffe://corp/ns/Gitlab', 'uri:spiffe://corp/ns/gitlab'],
    // A wildcard of the host ends with the host.
    ['uri:spiffe://**.corp/rails', 'uri:spiffe://evil/x.corp/rails'],
    ['uri:spiffe://*/rails', 'uri:spiffe://evil/x/rails'],
    ['uri:spiffe://corp/*', 'uri:spiffe://corp/rails?x'],
    ['uri:spiffe://corp/**', 'uri:spiffe:corp/rails'],
    ['uri:spiffe://corp/**', 'uri:spiffe://admin@corp/rails'],
    // Dot segments, which some parsers resolve.
    ['uri:spiffe://corp/ns/gitlab/**', 'uri:spiffe://corp/ns/gitlab/../admin'],
    ['uri:spiffe://corp/ns/gitlab/**', 'uri:spiffe://corp/ns/gitlab/%2E%2e/admin'],
    ['ip:10.0.0.0/8', 'ip:11.0.0.1'],
    ['ip:2001:db8::/32', 'ip:2001:db9::1'],
    ['email:ops@corp.example', 'email:OPS@corp.example'],
    ['email:*@corp.example', 'email:ops@evil.example@corp.examples'],
    ['email:*@*.example', 'email:ops@a.b.example'],
    // The Kelvin sign, whose lower case is k.
    ['cn:kubernetes', 'cn:\u212aubernetes'],
    ['cn:*', 'cn:a.b'],
  ])('%s: %s', (pattern, identity) => {
    expect(matches(pattern, identity)).toBe(false);
  });

  it.each(['\0', '\n', '\r', '\u001b', '\u007f', '\u0085', '\u2028', '\u202e', '\u200b'])(
    'a name with the character %j',
    (character) => {
      for (const pattern of ['dns:**', 'cn:**', 'cn:rails*', 'ou:**'])
        expect(matches(pattern, `${pattern.slice(0, 3)}rails${character}`)).toBe(false);
      expect(matches('uri:spiffe://corp/**', `uri:spiffe://corp/rails${character}`)).toBe(false);
    },
  );
});

describe('a malformed pattern is refused with what would be right', () => {
  it.each([
    ['', 'expected a name that begins with one of dns:, uri:, ip:, email:, cn:, ou:'],
    ['rails.internal', 'such as "dns:rails.internal"'],
    ['10.0.0.0/8', 'such as "ip:10.0.0.0/8"'],
    ['ops@corp.example', 'such as "email:ops@corp.example"'],
    ['spiffe://corp/x', 'such as "uri:spiffe://corp/x"'],
    ['DNS:rails', 'expected a name that begins with'],
    ['dns:', 'the name after `dns:` is missing'],
    ['dns:a b', 'expected a DNS name such as'],
    ['dns:a..b', 'expected a DNS name such as'],
    ['uri:**', 'expected a URI whose scheme has no wildcard'],
    ['uri:*://corp/x', 'expected a URI whose scheme has no wildcard'],
    ['uri:spiffe://corp/../x', 'no "." or ".." segment'],
    ['ip:*', 'expected an IP address or a network'],
    ['ip:10.0.0.0/33', 'expected an IP address or a network'],
    ['ip:fe80::1%eth0', 'expected an IP address or a network'],
    ['email:corp.example', 'expected a mail address with one "@"'],
    ['email:a@b@c', 'expected a mail address with one "@"'],
    ['cn:a\u202eb', 'contains an invisible or control character'],
    [`cn:${'a'.repeat(2049)}`, 'must have at most 2048 characters'],
  ])('%j', (text, message) => {
    expect(readIdentityPattern(text)).toContain(message);
  });
});

test('the cost of a comparison is bounded by the lengths, whatever pattern and name contain', () => {
  const pattern = `cn:${'a*'.repeat(500)}b`;
  const startedAtMs = performance.now();
  expect(matches(pattern, `cn:${'a'.repeat(2000)}`)).toBe(false);
  // A backtracking comparison would take longer than the age of the universe; this one takes some 100 ms.
  expect(performance.now() - startedAtMs).toBeLessThan(20_000);
});

test('a check without patterns names every client, and one with patterns only those with a matching name', () => {
  expect(identityCheck(undefined)([])).toBe(true);
  const check = identityCheck(['dns:rails.internal', 'ou:Gitaly']);
  expect(check([])).toBe(false);
  expect(check(['cn:rails.internal'])).toBe(false);
  expect(check(['cn:x', 'ou:gitaly'])).toBe(true);
});
