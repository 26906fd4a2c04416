import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Problem } from '../../src/config/model.js';
import { readRevocationList } from '../../src/x509/revocation-list.js';
import { loadRevocations, type RevocationLists } from '../../src/x509/revocation.js';
import type { TrustAnchors } from '../../src/x509/trust.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { anchorsOf } from '../tls/material.js';
import { oddRevocationList } from '../tls/odd-certificates.js';

const HOUR_MS = 3_600_000;
const THIS_UPDATE = new Date('2026-01-01T00:00:00Z');
const NEXT_UPDATE = new Date('2026-02-01T12:34:56Z');

async function load(
  text: string,
  now: Date,
  anchors: TrustAnchors = [],
): Promise<{ lists: RevocationLists | undefined; problems: Problem[]; path: string }> {
  const path = join(await temporaryDirectory(), 'clients.crl');
  await writeFile(path, text);
  const problems: Problem[] = [];
  const lists = await loadRevocations({ path, key: ['client_crl_path'] }, now, problems, anchors);
  return { lists, problems, path };
}

describe('loadRevocations', () => {
  test('a list in date', async () => {
    const { lists, problems } = await load(await oddRevocationList(THIS_UPDATE, NEXT_UPDATE), THIS_UPDATE);
    expect(problems).toEqual([]);
    expect(lists?.nextUpdate).toEqual(NEXT_UPDATE);
    expect(lists?.pem).toHaveLength(1);
  });

  test('of several issuers the earliest date counts', async () => {
    const later = new Date(NEXT_UPDATE.getTime() + HOUR_MS);
    const texts = [
      await oddRevocationList(THIS_UPDATE, later, { issuer: 'CN=one' }),
      await oddRevocationList(THIS_UPDATE, NEXT_UPDATE, { issuer: 'CN=other' }),
      await oddRevocationList(THIS_UPDATE, undefined, { issuer: 'CN=third' }),
    ];
    const { lists } = await load(texts.join('some text between\n'), THIS_UPDATE);
    expect(lists?.nextUpdate).toEqual(NEXT_UPDATE);
    expect(lists?.pem).toHaveLength(3);
  });

  test('one that never ends', async () => {
    const { lists, problems } = await load(await oddRevocationList(THIS_UPDATE, undefined), NEXT_UPDATE);
    expect(problems).toEqual([]);
    expect(lists).toMatchObject({ nextUpdate: undefined });
  });

  test('of one issuer only the newest is used, and its date counts, whatever the order', async () => {
    const later = new Date(NEXT_UPDATE.getTime() + HOUR_MS);
    // The superseded one is valid for longer: OpenSSL would fall back to it.
    const superseded = await oddRevocationList(THIS_UPDATE, later);
    const newest = await oddRevocationList(new Date(THIS_UPDATE.getTime() + 1000), NEXT_UPDATE, {
      issuer: 'CN=The-CA',
    });
    for (const texts of [
      [superseded, newest],
      [newest, superseded],
    ]) {
      const { lists, problems } = await load(texts.join(''), THIS_UPDATE);
      expect(problems).toEqual([]);
      expect(lists?.pem).toEqual([newest.trim()]);
      expect(lists?.nextUpdate).toEqual(NEXT_UPDATE);
    }
  });

  test('of two of the same time the one with the higher number is used', async () => {
    const numbered = (number: string): Promise<string> =>
      oddRevocationList(THIS_UPDATE, NEXT_UPDATE, {
        extensions: [{ id: '2.5.29.20', critical: false, der: `0201${number}` }],
      });
    const [lower, higher] = [await numbered('07'), await numbered('08')];
    for (const texts of [lower + higher, higher + lower])
      expect((await load(texts, THIS_UPDATE)).lists?.pem).toEqual([higher.trim()]);
  });

  test('one that is out of date is used nevertheless: OpenSSL refuses the clients of its issuer, and only those', async () => {
    const { lists, problems } = await load(await oddRevocationList(THIS_UPDATE, NEXT_UPDATE), NEXT_UPDATE);
    expect(problems).toEqual([]);
    expect(lists).toMatchObject({ nextUpdate: NEXT_UPDATE });
    expect(lists?.pem).toHaveLength(1);
  });

  const point = (der: string) => ({ id: '2.5.29.28', critical: true, der });
  const ADDRESS = 'a016a0148612687474703a2f2f63612e746573742f63726c';
  test.each([
    [
      'a delta CRL',
      { id: '2.5.29.27', critical: true, der: '020101' },
      /is a delta CRL \(deltaCRLIndicator\)/,
    ],
    [
      'a delta CRL that is not marked critical',
      { id: '2.5.29.27', critical: false, der: '020101' },
      /deltaCRLIndicator/,
    ],
    [
      'a critical extension that is not known',
      { id: '1.2.3.4', critical: true, der: '0500' },
      /critical extension that is not supported \(1\.2\.3\.4\)/,
    ],
    ['one for user certificates', point('30038101ff'), /onlyContainsUserCerts/],
    ['one for certificates of CAs', point('30038201ff'), /onlyContainsCACerts/],
    ['one for some reasons', point('300483020640'), /onlySomeReasons/],
    ['an indirect CRL', point('30038401ff'), /indirectCRL/],
    ['one for attribute certificates', point('30038501ff'), /onlyContainsAttributeCerts/],
    ['one for an address and user certificates', point(`301b${ADDRESS}8101ff`), /onlyContainsUserCerts/],
  ])('%s is refused, and the reason named', async (_name, extension, reason) => {
    const complete = await oddRevocationList(THIS_UPDATE, NEXT_UPDATE);
    const text = await oddRevocationList(THIS_UPDATE, NEXT_UPDATE, { extensions: [extension] });
    const { lists, problems } = await load(complete + text, THIS_UPDATE);
    expect(lists).toBeUndefined();
    expect(problems).toMatchObject([{ severity: 'error', message: expect.stringMatching(reason) as string }]);
    expect(problems[0]?.message).toMatch(
      /clients\.crl: the CRL of CN=the-ca .*; use a complete CRL of this CA$/,
    );
  });

  test.each([
    ['an extension that is not critical', { id: '1.2.3.4', critical: false, der: '0500' }],
    ['an address that it is for', point(`3018${ADDRESS}`)],
    ['a number', { id: '2.5.29.20', critical: false, der: '02022000' }],
  ])('one with %s is used', async (_name, extension) => {
    const text = await oddRevocationList(THIS_UPDATE, NEXT_UPDATE, { extensions: [extension] });
    const { lists, problems } = await load(text, THIS_UPDATE);
    expect(problems).toEqual([]);
    expect(lists?.pem).toHaveLength(1);
  });

  test('one that its CA has not signed is an error, and is left out beside one that it has signed', async () => {
    const authority = await Authority.create(await temporaryDirectory(), 'the-ca');
    const anchors = await anchorsOf(authority.caPath);
    const own = await readFile(await authority.revocationList([]), 'utf8');
    const foreign = await oddRevocationList(new Date(), new Date(Date.now() + 48 * HOUR_MS));
    const alone = await load(foreign, new Date(), anchors);
    expect(alone.lists).toBeUndefined();
    expect(alone.problems).toMatchObject([
      {
        severity: 'error',
        message: expect.stringMatching(/CRL of CN=the-ca is not signed by the CA/) as string,
      },
    ]);
    const beside = await load(own + foreign, new Date(), anchors);
    expect(beside.lists?.pem).toEqual([own.trim()]);
    expect(beside.problems).toMatchObject([{ severity: 'warning' }]);
  });

  test('one that will soon be is a warning', async () => {
    const text = await oddRevocationList(THIS_UPDATE, NEXT_UPDATE);
    const day = 24 * HOUR_MS;
    const soon = await load(text, new Date(NEXT_UPDATE.getTime() - day + 1));
    expect(soon.lists).toBeDefined();
    expect(soon.problems).toMatchObject([
      {
        severity: 'warning',
        message: expect.stringMatching(/must be replaced before 2026-02-01T12:34/) as string,
      },
    ]);
    expect((await load(text, new Date(NEXT_UPDATE.getTime() - day))).problems).toEqual([]);
  });

  test.each<[string, (good: string) => string, RegExp]>([
    ['empty', () => '', /: contains no certificate revocation list in PEM \(X509 CRL\)$/],
    [
      'truncated',
      (good) => good.slice(0, 100),
      /: truncated, a certificate revocation list has no END line$/,
    ],
    ['a certificate', () => rootCertificates[0] ?? '', /: contains no certificate revocation list in PEM/],
    [
      'garbage in the right frame',
      (good) => good.replace(/\n.{64}\n/, '\n'),
      /contains a certificate revocation list that cannot be parsed$/,
    ],
    [
      'good, then garbage',
      (good) => good + good.replace(/\n.{64}\n/, '\n'),
      /contains a certificate revocation list that cannot be parsed$/,
    ],
    ['good, then truncated', (good) => good + good.slice(0, 100), /truncated/],
  ])('%s', async (_name, spoil, message) => {
    const good = await oddRevocationList(THIS_UPDATE, NEXT_UPDATE);
    const { lists, problems } = await load(spoil(good), THIS_UPDATE);
    expect(lists).toBeUndefined();
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toMatch(message);
  });

  test('a CA whose issuer is not trusted, too, is a warning: OpenSSL verifies up to a self-signed one', async () => {
    const root = await Authority.create(await temporaryDirectory(), 'root');
    const between = await root.intermediate('between');
    const text = await readFile(await between.revocationList([]), 'utf8');
    const alone = await load(text, new Date(), await anchorsOf(between.caPath));
    expect(alone.lists).toBeDefined();
    expect(alone.problems).toMatchObject([
      {
        severity: 'warning',
        message: expect.stringMatching(/the clients of CN=between are refused/) as string,
      },
    ]);
    const both = await load(text, new Date(), await anchorsOf(between.caPath, root.caPath));
    expect(both.problems).toEqual([]);
  });

  test('missing', async () => {
    const problems: Problem[] = [];
    expect(await loadRevocations({ path: '/nowhere.crl', key: [] }, THIS_UPDATE, problems)).toBeUndefined();
    expect(problems).toMatchObject([{ severity: 'error', message: '/nowhere.crl: no such file' }]);
  });
});

describe('readRevocationList', () => {
  async function der(nextUpdate: Date | undefined): Promise<Buffer> {
    const pem = await oddRevocationList(THIS_UPDATE, nextUpdate);
    return Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64');
  }

  test.each(['2026-02-01T12:34:56Z', '2049-12-31T23:59:59Z', '2050-01-01T00:00:00Z', '2999-06-15T01:02:03Z'])(
    '%s, in whichever of the two forms it is written',
    async (text) => {
      expect(readRevocationList(await der(new Date(text))).nextUpdate).toEqual(new Date(text));
    },
  );

  test('every truncation is refused', async () => {
    const whole = await der(NEXT_UPDATE);
    for (let length = 0; length < whole.length; length++)
      expect(() => readRevocationList(whole.subarray(0, length))).toThrow();
  });

  test('arbitrary and changed bytes give a date, nothing, or an error, and never an invalid date', async () => {
    const whole = await der(NEXT_UPDATE);
    const read = (bytes: Buffer): void => {
      let date: Date | undefined;
      try {
        date = readRevocationList(bytes).nextUpdate;
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
        expect(error).not.toBeInstanceOf(RangeError);
        return;
      }
      if (date) expect(Number.isNaN(date.getTime())).toBe(false);
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => read(Buffer.from(bytes))),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 }), (at, value) => {
        const changed = Buffer.from(whole);
        changed[at] = value;
        read(changed);
      }),
      { numRuns: 1000 },
    );
  });
});
