import { describe, expect, test } from 'vitest';

import type { JsonNameParams } from '@peculiar/x509';

import {
  certificateIdentity,
  certificateNames,
  describeIssuer,
  describeNames,
  describeSubject,
} from '../../src/x509/certificate-names.js';
import { oddCertificate, type OddName } from '../tls/odd-certificates.js';

describe('certificateNames', () => {
  test('distinguishes the kinds of names', async () => {
    const certificate = await oddCertificate('CN=Common', [
      ['dns', 'Gitaly-A.Internal'],
      ['dns', '*.gitlab.internal'],
      ['ip', '10.0.0.1'],
      ['ip', '2001:db8::1'],
      ['url', 'spiffe://gitlab/gitaly-a'],
      ['email', 'root@gitaly.internal'],
    ]);
    expect(certificateNames(certificate)).toEqual({
      dns: ['gitaly-a.internal', '*.gitlab.internal'],
      ip: ['10.0.0.1', '2001:db8::1'],
      uri: ['spiffe://gitlab/gitaly-a'],
    });
  });

  test('the Common Name does not count', async () => {
    const names = certificateNames(await oddCertificate('CN=gitaly-a.internal', []));
    expect(names).toEqual({ dns: [], ip: [], uri: [] });
    expect(describeNames(names)).toBe('none');
  });

  test.each<[string, OddName]>([
    ['a name with a comma', ['dns', 'a, DNS:evil.test']],
    ['a name with a comma and no space', ['dns', 'a,DNS:evil.test']],
    ['a name with a quote', ['dns', 'a", DNS:evil.test, DNS:"b']],
    ['a name with a backslash and a quote', ['dns', 'a\\", DNS:evil.test']],
    ['a URI with a comma', ['url', 'spiffe://a/b, DNS:evil.test']],
    ['a mail address with a comma', ['email', 'a, DNS:evil.test']],
    ['a directory name', ['dn', 'CN="x, DNS:evil.test"']],
    ['a name with a line break', ['dns', 'a\nDNS:evil.test']],
  ])('%s smuggles none in', async (_name, odd) => {
    const certificate = await oddCertificate('CN=x', [['dns', 'first.test'], odd, ['dns', 'last.test']]);
    const { dns, ip } = certificateNames(certificate);
    expect(dns).not.toContain('evil.test');
    expect(ip).toEqual([]);
    expect(dns.filter((name) => /^[a-z.]+$/.test(name))).toEqual(['first.test', 'last.test']);
  });
});

test('describeNames lists all of a few names, and some of many', () => {
  expect(describeNames({ dns: ['a.test'], ip: ['10.0.0.1'], uri: ['spiffe://a'] })).toBe(
    'a.test, 10.0.0.1, spiffe://a',
  );
  const many = Array.from({ length: 5000 }, (_, index) => `name-${index}.test`);
  const told = describeNames({ dns: many, ip: [], uri: [] });
  expect(told).toMatch(/^name-0\.test, .*name-19\.test and 4980 more$/);
});

describe('certificateIdentity', () => {
  test.each<[string, string, OddName[], string]>([
    [
      'the URI first',
      'CN=common',
      [
        ['dns', 'a.test'],
        ['url', 'spiffe://gitlab/rails'],
      ],
      'spiffe://gitlab/rails',
    ],
    [
      'else the DNS name',
      'CN=common',
      [
        ['ip', '10.0.0.1'],
        ['dns', 'A.test'],
      ],
      'a.test',
    ],
    ['else the Common Name', 'O=GitLab, CN=common', [['ip', '10.0.0.1']], 'common'],
    ['else the subject', 'O=GitLab, OU=Gitaly', [], 'O=GitLab, OU=Gitaly'],
    ['without a subject, an IP address', '', [['ip', '10.0.0.1']], '10.0.0.1'],
    ['without a subject, a mail address', '', [['email', 'root@a.test']], 'root@a.test'],
  ])('%s', async (_name, subject, names, identity) => {
    expect(certificateIdentity(await oddCertificate(subject, names))).toBe(identity);
  });

  test('a certificate without any name has none', async () => {
    const certificate = await oddCertificate('', []);
    expect(certificateIdentity(certificate)).toBeUndefined();
    expect(describeSubject(certificate)).toBe('a certificate without a name');
    expect(describeIssuer(certificate)).toBe('an authority without a name');
  });

  test.each<[string, JsonNameParams, string | undefined]>([
    ['spaces at its ends', [{ CN: [{ utf8String: ' admin ' }] }], ' admin '],
    ['a name that looks like attributes', [{ CN: [{ utf8String: 'a, CN=admin' }] }], 'a, CN=admin'],
    [
      'attributes that stand together',
      [{ CN: [{ utf8String: 'rails' }], O: [{ utf8String: 'x' }] }],
      'rails',
    ],
    ['letters of any script', [{ CN: [{ bmpString: 'Gitälý 中' }] }], 'Gitälý 中'],
    [
      'a line separator in another attribute',
      [{ O: [{ utf8String: 'x\u2028CN=admin' }] }, { CN: ['rails'] }],
      'rails',
    ],
    ['two Common Names', [{ CN: ['rails'] }, { CN: ['admin'] }], 'CN=rails, CN=admin'],
  ])('exactly as it is: %s', async (_name, subject, identity) => {
    expect(certificateIdentity(await oddCertificate(subject, []))).toBe(identity);
  });

  test.each(
    [
      '\n',
      '\r',
      '\u0000',
      '\u001b',
      '\u007f',
      '\u0085',
      '\u009b',
      '\u2028',
      '\u2029',
      '\u202e',
      '\u2066',
      '\u200b',
      '\ufeff',
      // Blank: spaces other than U+0020, and characters that show as nothing.
      '\u00a0',
      '\u1680',
      '\u2003',
      '\u202f',
      '\u205f',
      '\u3000',
      '\u034f',
      '\u115f',
      '\u2800',
      '\u3164',
      '\ufe0f',
      '\uffa0',
    ].map((character) => [`U+${character.charCodeAt(0).toString(16).padStart(4, '0')}`, character]),
  )('a name with %s does not identify a client, and no other name replaces it', async (_name, character) => {
    const value = `a${character}CN=admin`;
    const of = async (subject: JsonNameParams, names: OddName[]): Promise<string | undefined> =>
      certificateIdentity(await oddCertificate(subject, names));
    expect(await of([{ CN: [{ utf8String: value }] }], [])).toBeUndefined();
    expect(await of([{ O: [{ utf8String: value }] }], [])).toBeUndefined();
    if (character < '\u0080') {
      expect(await of([{ CN: ['admin'] }], [['url', `spiffe://${value}`]])).toBeUndefined();
      expect(await of([{ CN: ['admin'] }], [['dns', value]])).toBeUndefined();
    }
    // In messages it is escaped.
    const certificate = await oddCertificate([{ CN: [{ utf8String: value }] }], []);
    expect(certificate.subject).toMatch(/^CN=a(\\[0-9A-F]{2})+CN=admin$/);
  });

  test.each<[string, OddName]>([
    ['a DNS name that looks like a URI', ['dns', 'spiffe://gitlab/rails']],
    ['a DNS name with a path', ['dns', 'a/b']],
    ['a DNS name with a space', ['dns', 'a b']],
    ['a DNS name that looks like a mail address', ['dns', 'root@a.test']],
    ['a DNS name with a comma', ['dns', 'a,CN=admin']],
    ['a DNS name with an empty label', ['dns', 'a..b']],
    ['an empty DNS name', ['dns', '']],
    ['a URI that looks like a DNS name', ['url', 'gitaly-a.internal']],
    ['a URI with a space', ['url', 'spiffe://a b']],
    ['a mail address that looks like a URI', ['email', 'spiffe://a@b']],
    ['a mail address that looks like a DNS name', ['email', 'a.test']],
  ])('%s does not identify a client', async (_name, odd) => {
    expect(certificateIdentity(await oddCertificate('', [odd]))).toBeUndefined();
    if (odd[0] !== 'email')
      expect(certificateIdentity(await oddCertificate('CN=admin', [odd]))).toBeUndefined();
  });

  test.each(['*.gitlab.internal', 'git_lab-1.internal', 'localhost', 'a.test.'])(
    'the DNS name %s is one',
    async (name) => {
      expect(certificateIdentity(await oddCertificate('CN=admin', [['dns', name]]))).toBe(name);
    },
  );

  test('a Common Name of spaces does not identify a client', async () => {
    expect(certificateIdentity(await oddCertificate([{ CN: [{ utf8String: '  ' }] }], []))).toBeUndefined();
  });

  test('a name that is too long does not identify a client, because a part of it might identify another', async () => {
    const certificate = await oddCertificate('CN=x', [['url', `spiffe://a/${'b'.repeat(2048)}`]]);
    expect(certificateIdentity(certificate)).toBeUndefined();
  });
});
