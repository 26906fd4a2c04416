import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Problem } from '../../src/config/model.js';
import { crlNextUpdate } from '../../src/tls/crl-next-update.js';
import { loadRevocations, type RevocationLists } from '../../src/tls/revocation.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { oddRevocationList } from './odd-certificates.js';

const HOUR_MS = 3_600_000;
const THIS_UPDATE = new Date('2026-01-01T00:00:00Z');
const NEXT_UPDATE = new Date('2026-02-01T12:34:56Z');

async function load(
  text: string,
  now: Date,
): Promise<{ lists: RevocationLists | undefined; problems: Problem[]; path: string }> {
  const path = join(await temporaryDirectory(), 'clients.crl');
  await writeFile(path, text);
  const problems: Problem[] = [];
  const lists = await loadRevocations({ path, key: ['client_crl_path'] }, now, problems);
  return { lists, problems, path };
}

describe('loadRevocations', () => {
  test('a list in date', async () => {
    const { lists, problems } = await load(await oddRevocationList(THIS_UPDATE, NEXT_UPDATE), THIS_UPDATE);
    expect(problems).toEqual([]);
    expect(lists?.nextUpdate).toEqual(NEXT_UPDATE);
    expect(lists?.pem).toHaveLength(1);
  });

  test('of several lists the earliest date counts', async () => {
    const later = new Date(NEXT_UPDATE.getTime() + HOUR_MS);
    const texts = [
      await oddRevocationList(THIS_UPDATE, later),
      await oddRevocationList(THIS_UPDATE, NEXT_UPDATE),
      await oddRevocationList(THIS_UPDATE, undefined),
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

  test('one that is out of date is an error: it would refuse everybody', async () => {
    const { lists, problems, path } = await load(
      await oddRevocationList(THIS_UPDATE, NEXT_UPDATE),
      NEXT_UPDATE,
    );
    expect(lists).toBeUndefined();
    expect(problems).toEqual([
      {
        severity: 'error',
        key: ['client_crl_path'],
        value: path,
        message: `${path}: the CRL is out of date since 2026-02-01T12:34:56.000Z; every client would be refused`,
      },
    ]);
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
    ['empty', () => '', /: holds no certificate revocation list in PEM \(X509 CRL\)$/],
    [
      'truncated',
      (good) => good.slice(0, 100),
      /: truncated, a certificate revocation list begins and does not end$/,
    ],
    ['a certificate', () => rootCertificates[0] ?? '', /: holds no certificate revocation list in PEM/],
    ['garbage in the right frame', (good) => good.replace(/\n.{64}\n/, '\n'), /in it cannot be parsed$/],
    ['good, then garbage', (good) => good + good.replace(/\n.{64}\n/, '\n'), /in it cannot be parsed$/],
    ['good, then truncated', (good) => good + good.slice(0, 100), /truncated/],
  ])('%s', async (_name, spoil, message) => {
    const good = await oddRevocationList(THIS_UPDATE, NEXT_UPDATE);
    const { lists, problems } = await load(spoil(good), THIS_UPDATE);
    expect(lists).toBeUndefined();
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toMatch(message);
  });

  test('missing', async () => {
    const problems: Problem[] = [];
    expect(await loadRevocations({ path: '/nowhere.crl', key: [] }, THIS_UPDATE, problems)).toBeUndefined();
    expect(problems).toMatchObject([{ severity: 'error', message: '/nowhere.crl: no such file' }]);
  });
});

describe('crlNextUpdate', () => {
  async function der(nextUpdate: Date | undefined): Promise<Buffer> {
    const pem = await oddRevocationList(THIS_UPDATE, nextUpdate);
    return Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64');
  }

  test.each(['2026-02-01T12:34:56Z', '2049-12-31T23:59:59Z', '2050-01-01T00:00:00Z', '2999-06-15T01:02:03Z'])(
    '%s, in whichever of the two forms it is written',
    async (text) => {
      expect(crlNextUpdate(await der(new Date(text)))).toEqual(new Date(text));
    },
  );

  test('every truncation is refused', async () => {
    const whole = await der(NEXT_UPDATE);
    for (let length = 0; length < whole.length; length++)
      expect(() => crlNextUpdate(whole.subarray(0, length))).toThrow();
  });

  test('arbitrary and changed bytes give a date, nothing, or an error, and never a date that is none', async () => {
    const whole = await der(NEXT_UPDATE);
    const read = (bytes: Buffer): void => {
      let date: Date | undefined;
      try {
        date = crlNextUpdate(bytes);
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
