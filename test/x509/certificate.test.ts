import 'reflect-metadata';

import * as x509 from '@peculiar/x509';
import fc from 'fast-check';
import { expect, test } from 'vitest';

import { certificateFacts } from '../../src/x509/certificate-facts.js';
import {
  certificateIdentity,
  certificateNames,
  describeIssuer,
  describeSubject,
  holdsName,
} from '../../src/x509/certificate-names.js';
import { Certificate } from '../../src/x509/certificate.js';
import { isoDate } from '../../src/x509/iso-date.js';
import { judgeChain } from '../../src/x509/judge/judge-chain.js';
import { isPrintable } from '../../src/printable.js';
import { issueLeaf, issueRoot, NOW } from './judge/hand-issued.js';
import { oddCertificate } from '../tls/odd-certificates.js';

/** Everything that the program reads of a certificate it was sent. */
function readAll(certificate: Certificate): string[] {
  for (const host of ['gitaly.test', '', 'a\0b', '10.0.0.1', 'fe80::1%lo', '::1'])
    holdsName(certificate, host);
  const { dns, ip, uri } = certificateNames(certificate);
  expect([...dns, ...ip, ...uri].every((name) => typeof name === 'string')).toBe(true);
  return [
    certificate.subject,
    certificate.issuer,
    certificate.serialNumber,
    certificate.fingerprint256,
    certificateIdentity(certificate) ?? '',
    describeSubject(certificate),
    describeIssuer(certificate),
    isoDate(certificate.validFrom),
    isoDate(certificate.validTo),
  ];
}

test('a certificate without subject, issuer and extensions is read like any other', async () => {
  const certificate = await oddCertificate('', []);
  expect(readAll(certificate).every((text) => typeof text === 'string')).toBe(true);
  expect([certificate.subject, certificate.issuer]).toEqual(['', '']);
  expect(
    judgeChain([certificate, certificate], { role: 'gitaly', serverName: 'a.test', now: NOW }),
  ).toMatchObject([{ id: 'no_subject_alternative_name' }, { id: 'duplicate_certificate' }]);
});

test('whatever OpenSSL can parse, reading and judging it throws nothing, and all text can be printed', async () => {
  const root = await issueRoot();
  const { certificate } = await issueLeaf(root, { dns: ['gitaly.test'], ip: ['10.0.0.1'] });
  let parsed = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(certificate.raw.length - 1), fc.integer({ min: 0, max: 255 })), {
        minLength: 1,
        maxLength: 3,
      }),
      (changes) => {
        const raw = Buffer.from(certificate.raw);
        for (const [at, byte] of changes) raw[at] = byte;
        let changed: Certificate;
        try {
          changed = new Certificate(raw);
        } catch {
          return;
        }
        parsed++;
        for (const text of readAll(changed)) expect(isPrintable(text)).toBe(true);
        judgeChain([changed, root.certificate], {
          role: 'gitaly',
          serverName: 'a.test',
          trust: [root.certificate],
          now: NOW,
        });
        judgeChain([root.certificate, changed], { role: 'client', now: NOW });
      },
    ),
    { numRuns: 400 },
  );
  expect(parsed).toBeGreaterThan(100);
});

test('values of every string type, escaped so that none can pretend to be another attribute', async () => {
  const certificate = await oddCertificate(
    [
      { O: [{ printableString: 'GitLab' }], OU: [{ ia5String: 'a+b' }] },
      { L: [{ bmpString: 'Zürich' }] },
      { CN: [{ utf8String: '#x, CN=y"\\ ' }] },
    ],
    [],
  );
  expect(certificate.subject).toBe('O=GitLab + OU=a\\+b, L=Zürich, CN=\\#x\\, CN=y\\"\\\\\\ ');
  expect(certificate.issuer).toBe(certificate.subject);
  expect(certificate.commonName).toBe('#x, CN=y"\\ ');
});

test('dates, serial number and key are those that OpenSSL reads', async () => {
  const { certificate } = await issueLeaf(await issueRoot());
  const other = new x509.X509Certificate(certificate.raw);
  expect(certificate.validFrom).toEqual(other.notBefore);
  expect(certificate.validTo).toEqual(other.notAfter);
  expect(certificate.serialNumber).toBe(other.serialNumber);
  expect(certificate.publicKeyDer).toEqual(Buffer.from(other.publicKey.rawData));
  expect(certificateFacts(certificate)).toMatchObject({ explicitCurve: false, authority: false });
});
