import 'reflect-metadata';

import * as x509 from '@peculiar/x509';
import { describe, expect, test } from 'vitest';

import { Certificate } from '../../../src/x509/certificate.js';
import type { CertificateRole, CertificateFinding } from '../../../src/x509/judge/certificate-finding.js';
import { judgeChain, likelyRole, type ChainQuestion } from '../../../src/x509/judge/judge-chain.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';
import { explicitCurvePair } from '../../tls/odd-certificates.js';
import {
  days,
  ENCIPHER,
  issue,
  issueLeaf,
  issueRoot,
  nameConstraints,
  NOW,
  SIGN,
  SIGN_BOTH,
  type HandIssued,
  type Issue,
} from './hand-issued.js';

function judge(chain: readonly HandIssued[], question: Partial<ChainQuestion> = {}): CertificateFinding[] {
  return judgeChain(
    chain.map(({ certificate }) => certificate),
    { role: 'gitaly', now: NOW, ...question },
  );
}

/** The findings as `error expired`. */
function found(chain: readonly HandIssued[], question: Partial<ChainQuestion> = {}): string[] {
  return judge(chain, question).map(({ severity, id }) => `${severity} ${id}`);
}

/** The sentence of one of the findings. */
function sentence(findings: readonly CertificateFinding[], id: CertificateFinding['id']): string {
  return findings.find((finding) => finding.id === id)?.sentence ?? '';
}

test('nothing is wrong with a good chain, whatever is known of its peer', async () => {
  const root = await issueRoot();
  const intermediate = await issueRoot({ subject: 'CN=intermediate', by: root, pathLength: 0 });
  const leaf = await issueLeaf(intermediate);
  expect(judge([leaf, intermediate])).toEqual([]);
  expect(judge([leaf, intermediate, root])).toEqual([]);
  for (const role of ['server', 'client', 'gitaly'] as const) {
    expect(
      judge([leaf, intermediate], {
        role,
        serverName: 'gitaly-a.internal',
        trust: [root.certificate],
      }),
    ).toEqual([]);
  }
  expect(judge([root], { role: 'authority' })).toEqual([]);
});

test('no certificate at all', () => {
  expect(found([])).toEqual(['error empty_chain']);
});

describe('names', () => {
  test("a Common Name alone is refused in the words of Go's error", async () => {
    const findings = judge([await issueLeaf(await issueRoot(), { dns: [] })]);
    expect(sentence(findings, 'no_subject_alternative_name')).toContain(
      'x509: certificate relies on legacy Common Name field, use SANs instead',
    );
  });

  test('no matter for a client', async () => {
    expect(judge([await issueLeaf(await issueRoot(), { dns: [] })], { role: 'client' })).toEqual([]);
  });

  test('another name than the one that clients use; with those that it has', async () => {
    const leaf = await issueLeaf(await issueRoot(), { dns: ['a.test', '*.b.test'], ip: ['10.0.0.1'] });
    const of = (serverName: string): string[] => found([leaf], { serverName });
    expect([of('a.test'), of('x.b.test'), of('10.0.0.1')]).toEqual([[], [], []]);
    expect(of('gitaly-a.internal')).toEqual(['error name_mismatch']);
    expect(of('10.0.0.2')).toEqual(['error name_mismatch']);
    expect(sentence(judge([leaf], { serverName: 'c.test' }), 'name_mismatch')).toBe(
      'the certificate is not valid for c.test; the names that it has: a.test, *.b.test, 10.0.0.1',
    );
  });

  test('an IP address as a DNS name', async () => {
    const leaf = await issueLeaf(await issueRoot(), { dns: ['10.0.0.1'] });
    expect(found([leaf])).toEqual(['warning ip_address_as_dns_name']);
  });
});

describe('validity', () => {
  test.each<[string, Partial<Issue>, string[]]>([
    ['expired', { from: days(-9), to: days(-1) }, ['error expired']],
    ['not yet valid', { from: days(1) }, ['error not_yet_valid']],
    ['30 days left', { to: days(30) }, []],
    ['less than 30 days left', { to: days(29.9) }, ['warning expires_soon']],
    ['on its last day', { to: days(0.5) }, ['warning expires_soon']],
  ])('%s', async (_name, more, expected) => {
    expect(found([await issueLeaf(await issueRoot(), more)])).toEqual(expected);
  });

  test('of the issuer of the leaf, and of one further up that a client need not use', async () => {
    const old = { from: days(-9), to: days(-1) };
    const root = await issueRoot({ ...old });
    const upper = await issueRoot({ subject: 'CN=upper', by: root, ...old });
    const lower = await issueRoot({ subject: 'CN=lower', by: upper, ...old });
    const leaf = await issueLeaf(lower);
    const findings = judge([leaf, lower, upper]);
    expect(findings).toMatchObject([
      { id: 'expired', severity: 'error', sentence: expect.stringContaining('CN=lower') as unknown },
      { id: 'expired', severity: 'warning', sentence: expect.stringContaining('CN=upper') as unknown },
    ]);
  });
});

describe('what it may be used for', () => {
  test.each<[string, CertificateRole, Partial<Issue>, string[]]>([
    ['for servers only, on a server', 'server', { usages: ['serverAuth'] }, []],
    ['for servers only, that of a Gitaly', 'gitaly', { usages: ['serverAuth'] }, ['warning no_client_usage']],
    ['for servers only, on a client', 'client', { usages: ['serverAuth'] }, ['error no_client_usage']],
    ['for clients only, on a client', 'client', { usages: ['clientAuth'] }, []],
    ['for clients only, on a server', 'server', { usages: ['clientAuth'] }, ['error no_server_usage']],
    [
      'for neither',
      'gitaly',
      { usages: ['codeSigning'] },
      ['error no_server_usage', 'warning no_client_usage'],
    ],
    ['encipherment only', 'server', { keyUsage: ENCIPHER }, ['error no_digital_signature']],
    ['an authority as leaf', 'server', { ca: true, keyUsage: SIGN_BOTH }, ['warning authority_as_leaf']],
    [
      'a leaf that claims to sign certificates',
      'server',
      { keyUsage: SIGN_BOTH },
      ['warning contradictory_authority'],
    ],
  ])('%s', async (_name, role, more, expected) => {
    expect(found([await issueLeaf(await issueRoot(), more)], { role })).toEqual(expected);
  });

  test('no stated purpose allows every purpose', async () => {
    const bare = await issue({ subject: 'CN=a.test', by: await issueRoot(), dns: ['a.test'] });
    expect(judge([bare])).toEqual([]);
  });

  test('for servers only: what to issue instead', async () => {
    const [finding] = judge([await issueLeaf(await issueRoot(), { usages: ['serverAuth'] })]);
    expect(finding?.sentence).toMatch(/Gitaly presents its server certificate to GitLab's internal API/);
    expect(finding?.cure).toMatch(/^issue one with serverAuth and clientAuth/);
  });

  test('an authority must be one', async () => {
    const of = async (more: Partial<Issue>): Promise<string[]> =>
      found([await issueRoot(more)], { role: 'authority' });
    expect(await of({ ca: false })).toEqual(['error no_authority']);
    expect(await of({ keyUsage: SIGN })).toEqual(['error no_authority']);
  });
});

describe('strength', () => {
  test.each<[string, Partial<Issue>, string[]]>([
    ['RSA 2048', { key: 'rsa2048' }, []],
    ['RSA 1024', { key: 'rsa1024' }, ['error weak_key']],
    ['P-521', { key: 'p521' }, ['warning unusual_key']],
    ['Ed25519', { key: 'ed25519' }, ['warning unusual_key']],
  ])('%s', async (_name, more, expected) => {
    expect(found([await issueLeaf(await issueRoot(), more)])).toEqual(expected);
  });

  test('SHA-1 in the leaf and in an intermediate, but not in a root, whose signature is not verified', async () => {
    const root = await issueRoot({ hash: 'SHA-1' });
    const intermediate = await issueRoot({ subject: 'CN=intermediate', by: root, hash: 'SHA-1' });
    const leaf = await issueLeaf(intermediate, { hash: 'SHA-1' });
    const findings = judge([leaf, intermediate, root]);
    expect(findings.map(({ id, sentence: text }) => `${id}: ${text}`)).toEqual([
      'weak_signature: the certificate is signed with ecdsa-with-SHA1, which Go and OpenSSL refuse',
      'weak_signature: the certificate of CN=intermediate is signed with ecdsa-with-SHA1, which Go and OpenSSL refuse',
    ]);
  });
});

describe('the chain', () => {
  async function threeLevels(): Promise<Record<'root' | 'upper' | 'lower' | 'leaf', HandIssued>> {
    const root = await issueRoot();
    const upper = await issueRoot({ subject: 'CN=upper', by: root });
    const lower = await issueRoot({ subject: 'CN=lower', by: upper });
    return { root, upper, lower, leaf: await issueLeaf(lower) };
  }

  test('the leaf must be first', async () => {
    const { upper, lower, leaf } = await threeLevels();
    const findings = judge([lower, upper, leaf]);
    expect(findings).toMatchObject([{ id: 'chain_order', severity: 'error' }]);
    expect(sentence(findings, 'chain_order')).toContain(
      'its first certificate is that of CN=lower, and the leaf, CN=gitaly-a.internal,',
    );
  });

  test('the leaf must be first, also if it claims to be an authority itself', async () => {
    const { upper, lower } = await threeLevels();
    const leaf = await issueLeaf(lower, { ca: true, keyUsage: SIGN_BOTH });
    expect(found([lower, leaf, upper])).toEqual(['warning authority_as_leaf', 'error chain_order']);
    expect(found([leaf, lower, upper])).toEqual(['warning authority_as_leaf']);
  });

  test('intermediates out of order', async () => {
    const { upper, lower, leaf } = await threeLevels();
    expect(found([leaf, upper, lower])).toEqual(['warning chain_order']);
  });

  test('a missing intermediate is named by who should have been there', async () => {
    const { root, upper, lower, leaf } = await threeLevels();
    const trust = [root.certificate];
    expect(judge([leaf, lower, upper], { trust })).toEqual([]);
    const findings = judge([leaf, lower], { trust });
    expect(findings.map(({ id }) => id)).toEqual(['missing_issuer']);
    expect(sentence(findings, 'missing_issuer')).toMatch(
      /^the certificate of CN=lower was issued by CN=upper, which is neither in the chain nor among/,
    );
    expect(found([leaf, upper], { trust })).toEqual([
      'warning unrelated_certificate',
      'error missing_issuer',
    ]);
    expect(found([leaf, lower])).toEqual([]);
  });

  test('an authority that is not trusted', async () => {
    const { root, upper, lower, leaf } = await threeLevels();
    const trust = [(await issueRoot({ subject: 'CN=another' })).certificate];
    expect(found([leaf, lower, upper, root], { trust })).toEqual(['error untrusted']);
    const selfSigned = await issue({ subject: 'CN=a.test', dns: ['a.test'] });
    expect(found([selfSigned], { trust })).toEqual(['error untrusted']);
    expect(found([selfSigned], { trust: [selfSigned.certificate] })).toEqual([]);
  });

  test('two authorities of the same name are distinguished by their key identifiers, or by the signature', async () => {
    const [one, other] = [await issueRoot({ ids: false }), await issueRoot({ ids: false })];
    const leaf = await issueLeaf(one, { ids: false });
    expect(found([leaf, other])).toEqual(['error wrong_issuer']);
    expect(found([leaf], { trust: [other.certificate] })).toEqual(['error wrong_issuer']);
    expect(found([leaf], { trust: [other.certificate, one.certificate] })).toEqual([]);
  });

  test('an issuer that is not an authority, and one that allows no other authority below it', async () => {
    const root = await issueRoot({ pathLength: 0 });
    const plain = await issueLeaf(root, { subject: 'CN=plain' });
    expect(found([await issueLeaf(plain), plain])).toEqual(['error issuer_is_no_authority']);
    const intermediate = await issueRoot({ subject: 'CN=intermediate', by: root });
    const leaf = await issueLeaf(intermediate);
    expect(found([leaf, intermediate, root])).toEqual(['error path_too_long']);
    expect(found([leaf, intermediate], { trust: [root.certificate] })).toEqual(['error path_too_long']);
  });

  test('what is there twice, and what has nothing to do with it', async () => {
    const { root, lower, upper, leaf } = await threeLevels();
    expect(found([leaf, lower, lower, upper, upper])).toEqual([
      'warning duplicate_certificate',
      'warning duplicate_certificate',
    ]);
    const stray = await issueRoot({ subject: 'CN=stray' });
    expect(found([leaf, lower, stray, upper, root])).toEqual(['warning unrelated_certificate']);
  });
});

describe('several ways up: the one that holds counts, as for Go and OpenSSL', () => {
  test('a root that is signed by another authority, too', async () => {
    const old = await issueRoot({ subject: 'CN=old root', from: days(-90), to: days(-1) });
    const root = await issueRoot();
    const crossed = await issueRoot({ subject: 'CN=root', keysOf: root, by: old });
    const intermediate = await issueRoot({ subject: 'CN=intermediate', by: root });
    const leaf = await issueLeaf(intermediate);
    const trust = [root.certificate];
    expect(found([leaf, intermediate, crossed], { trust })).toEqual([]);
    expect(found([leaf, intermediate, crossed, old], { trust })).toEqual([]);
    expect(found([leaf, intermediate, root, crossed])).toEqual([]);
    expect(found([leaf, intermediate, crossed, root], { trust })).toEqual([]);
    expect(found([leaf, intermediate, crossed], { trust: [old.certificate] })).toEqual(['error expired']);
  });

  test('an issuer that has expired beside its renewal, whichever comes first', async () => {
    const root = await issueRoot();
    const expired = await issueRoot({ subject: 'CN=intermediate', by: root, from: days(-90), to: days(-1) });
    const renewed = await issueRoot({ subject: 'CN=intermediate', by: root, keysOf: expired });
    const leaf = await issueLeaf(renewed);
    const trust = [root.certificate];
    for (const question of [{}, { trust }]) {
      expect(found([leaf, expired, renewed], question)).toEqual([]);
      expect(found([leaf, renewed, expired, root], question)).toEqual([]);
      expect(found([leaf, expired], question)).toEqual(['error expired']);
    }
    expect(found([leaf, expired], { trust: [...trust, renewed.certificate] })).toEqual([]);
  });

  test('an authority that has renewed its key, without identifiers of keys', async () => {
    const root = await issueRoot({ ids: false });
    const [one, other] = [
      await issueRoot({ subject: 'CN=intermediate', by: root, ids: false }),
      await issueRoot({ subject: 'CN=intermediate', by: root, ids: false }),
    ];
    const leaf = await issueLeaf(other, { ids: false });
    expect(found([leaf, other, one], { trust: [root.certificate] })).toEqual([]);
  });

  test('a chain with many twins on many levels is judged without trying every path', async () => {
    let by = await issueRoot();
    const chain: HandIssued[] = [];
    for (let level = 0; level < 8; level++) {
      const [first, second, third] = await Promise.all(
        [by, by, by].map((issuer) => issueRoot({ subject: `CN=level ${level}`, by: issuer, keysOf: by })),
      );
      if (!first || !second || !third) throw new Error('not issued');
      chain.unshift(first, second, third);
      by = first;
    }
    const leaf = await issueLeaf(by);
    const startedAtMs = performance.now();
    judge([leaf, ...chain]);
    expect(performance.now() - startedAtMs).toBeLessThan(2000);
  });
});

describe('name constraints', () => {
  async function judged(extension: x509.Extension, leaf: Partial<Issue>): Promise<CertificateFinding[]> {
    const root = await issueRoot();
    const intermediate = await issueRoot({ subject: 'CN=limited', by: root, extensions: [extension] });
    return judge([await issueLeaf(intermediate, leaf), intermediate], { trust: [root.certificate] });
  }

  test.each<[string, x509.Extension, Partial<Issue>]>([
    [
      'below a permitted domain',
      nameConstraints(['example.test']),
      { dns: ['a.example.test', 'example.test'] },
    ],
    ['below a permitted domain with a dot', nameConstraints(['.example.test']), { dns: ['A.Example.test'] }],
    ['a wildcard', nameConstraints(['example.test']), { dns: ['*.example.test'] }],
    [
      'another kind of name',
      nameConstraints(['example.test']),
      { dns: ['a.example.test'], ip: ['10.0.0.1'] },
    ],
    ['beside an excluded domain', nameConstraints([], ['other.test']), { dns: ['another.test'] }],
    ['a permitted network', nameConstraints(['10.0.0.0/8']), { dns: ['a.test'], ip: ['10.9.8.7'] }],
  ])('%s is within', async (_name, extension, leaf) => {
    expect(await judged(extension, leaf)).toEqual([]);
  });

  test.each<[string, x509.Extension, Partial<Issue>, RegExp]>([
    [
      'another domain',
      nameConstraints(['example.test']),
      { dns: ['a.example.test', 'b.other.test'] },
      /for b\.other\.test: by its name constraints it permits only example\.test$/,
    ],
    [
      'a name that only ends alike',
      nameConstraints(['example.test']),
      { dns: ['anexample.test'] },
      /permits only/,
    ],
    [
      'the domain itself, where a dot asks for more',
      nameConstraints(['.example.test']),
      { dns: ['example.test'] },
      /permits only/,
    ],
    [
      'an excluded domain',
      nameConstraints(['example.test'], ['b.example.test']),
      { dns: ['a.b.example.test'] },
      /it excludes b\.example\.test$/,
    ],
    [
      'another network',
      nameConstraints(['10.0.0.0/8']),
      { dns: ['a.test'], ip: ['11.0.0.1'] },
      /for 11\.0\.0\.1: .* permits only 10\.0\.0\.0\/8$/,
    ],
    [
      'everything excluded',
      nameConstraints([], ['']),
      { dns: ['a.test'] },
      /it excludes all names of type dns$/,
    ],
  ])('%s is not', async (_name, extension, leaf, words) => {
    const findings = await judged(extension, leaf);
    expect(findings.map(({ severity, id }) => `${severity} ${id}`)).toEqual(['error name_constraints']);
    expect(sentence(findings, 'name_constraints')).toMatch(
      /^the authority CN=limited may not issue the certificate /,
    );
    expect(sentence(findings, 'name_constraints')).toMatch(words);
  });

  test('those of a trusted root count', async () => {
    const root = await issueRoot({ extensions: [nameConstraints(['example.test'])] });
    const leaf = await issueLeaf(root, { dns: ['a.other.test'] });
    expect(found([leaf], { trust: [root.certificate] })).toEqual(['error name_constraints']);
    expect(found([leaf, root])).toEqual(['error name_constraints']);
  });
});

describe('critical extensions', () => {
  test('an unknown critical extension, in the leaf and in an issuer, by its number', async () => {
    const unknown = new x509.Extension('1.3.6.1.4.1.99999.1', true, new Uint8Array([5, 0]));
    const root = await issueRoot();
    const intermediate = await issueRoot({ subject: 'CN=intermediate', by: root, extensions: [unknown] });
    const findings = judge([await issueLeaf(intermediate, { extensions: [unknown] }), intermediate]);
    expect(findings.map(({ severity, id, sentence: text }) => `${severity} ${id}: ${text}`)).toEqual([
      'error critical_extension: the certificate has the critical extension 1.3.6.1.4.1.99999.1, which Go and OpenSSL do not accept as critical',
      'error critical_extension: the certificate of CN=intermediate has the critical extension 1.3.6.1.4.1.99999.1, which Go and OpenSSL do not accept as critical',
    ]);
  });

  test('one that is not critical is of no matter', async () => {
    const unknown = new x509.Extension('1.3.6.1.4.1.99999.1', false, new Uint8Array([5, 0]));
    expect(judge([await issueLeaf(await issueRoot(), { extensions: [unknown] })])).toEqual([]);
  });
});

test('a key whose curve is described and not named, which Go cannot read', async () => {
  const certificate = new Certificate((await explicitCurvePair(await temporaryDirectory())).certificatePem);
  const idsOf = (chain: Certificate[]): string[] =>
    judgeChain(chain, { role: 'server', now: NOW }).map(({ id }) => id);
  expect(idsOf([certificate])).toContain('explicit_curve');
  // Wherever it is in the chain.
  expect(idsOf([(await issueLeaf(await issueRoot())).certificate, certificate])).toContain('explicit_curve');
});

test('a certificate that cannot be read to its end is a finding, not a fault', async () => {
  const { certificate } = await issueLeaf(await issueRoot(), { keyUsage: SIGN });
  // 03 02 07 80 is the key usage; its length now exceeds its content.
  const at = certificate.raw.indexOf(Buffer.from([0x03, 0x02, 0x07, 0x80]));
  const broken = Buffer.from(certificate.raw);
  broken[at + 1] = 0x7f;
  expect(judgeChain([new Certificate(broken)], { role: 'server', now: NOW })).toMatchObject([
    { id: 'broken_certificate', severity: 'error' },
  ]);
});

test('the purpose of a certificate is read from it', async () => {
  const root = await issueRoot();
  const roleOf = async (asked: Partial<Issue>): Promise<CertificateRole> =>
    likelyRole((await issue({ subject: 'CN=x', ...asked })).certificate);
  expect(likelyRole(root.certificate)).toBe('authority');
  expect(await roleOf({ ca: true })).toBe('authority');
  expect(await roleOf({ ca: true, dns: ['gitaly.internal'] })).toBe('gitaly');
  expect(await roleOf({ ca: true, subject: 'CN=gitaly.internal' })).toBe('gitaly');
  expect(await roleOf({ usages: ['clientAuth'] })).toBe('client');
  expect(await roleOf({ usages: ['clientAuth', 'serverAuth'] })).toBe('gitaly');
  expect(await roleOf({})).toBe('gitaly');
});
