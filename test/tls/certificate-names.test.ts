import { describe, expect, test } from 'vitest';

import { certificateIdentity, certificateNames, describeNames } from '../../src/tls/certificate-names.js';
import { oddCertificate, type OddName } from './odd-certificates.js';

describe('certificateNames', () => {
  test('tells the kinds apart', async () => {
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

test('describeNames tells all of a few names, and some of many', () => {
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
  ])('%s', async (_name, subject, names, identity) => {
    expect(certificateIdentity(await oddCertificate(subject, names))).toBe(identity);
  });
});
