import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, rootCertificates } from 'node:tls';

import { describe, expect, test } from 'vitest';

import type { Problem } from '../../src/config/model.js';
import { loadSystemTrust, loadTrust, type TrustAnchors } from '../../src/x509/trust.js';
import { Authority } from '../support/authority.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

async function load(
  files: readonly string[],
  directories: readonly string[] = [],
): Promise<{ subjects: string[] | undefined; problems: Problem[] }> {
  const problems: Problem[] = [];
  const setting = (path: string): { path: string; key: string[] } => ({ path, key: ['client_ca_path'] });
  const anchors: TrustAnchors | undefined = await loadTrust(
    { files: files.map(setting), directories: directories.map(setting) },
    problems,
  );
  // A source without an error has an authority, and one with an error has none: never the public roots.
  expect(anchors === undefined).toBe(problems.some(({ severity }) => severity === 'error'));
  if (anchors) expect(anchors.length).toBeGreaterThan(0);
  return { subjects: anchors?.map(({ x509 }) => x509.subject), problems };
}

describe('a file', () => {
  test('may hold several authorities', async () => {
    const directory = await temporaryDirectory();
    const [one, two] = [await Authority.create(directory, 'one'), await Authority.create(directory, 'two')];
    const bundle = join(directory, 'bundle.pem');
    await writeFile(bundle, `# one\n${one.caPem}\n# two\n${two.caPem}`);
    expect((await load([bundle])).subjects).toEqual(['CN=one', 'CN=two']);
  });

  test.each<[string, string, RegExp]>([
    ['empty', '', /: holds no certificate; a CA in PEM is needed$/],
    ['without a certificate', 'not a certificate', /: holds no certificate; a CA in PEM is needed$/],
    ['truncated', '-----BEGIN CERTIFICATE-----\nMIIB', /: truncated/],
    [
      'garbage',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
      /: certificate 1 cannot be parsed$/,
    ],
  ])('%s is an error', async (_name, text, message) => {
    const path = join(await temporaryDirectory(), 'ca.pem');
    await writeFile(path, text);
    const { problems } = await load([path]);
    expect(problems).toMatchObject([{ severity: 'error', key: ['client_ca_path'], value: path }]);
    expect(problems[0]?.message).toMatch(message);
  });

  test('missing is an error, also beside a good one', async () => {
    const directory = await temporaryDirectory();
    const { caPath } = await Authority.create(directory);
    const { problems } = await load([caPath, join(directory, 'nowhere.pem')]);
    expect(problems.map(({ message }) => message)).toEqual([
      `${join(directory, 'nowhere.pem')}: no such file`,
    ]);
  });
});

describe('a directory', () => {
  test('gives the authorities of all its files, each once', async () => {
    const directory = await temporaryDirectory();
    const trusted = join(directory, 'trusted');
    await mkdir(join(trusted, 'a-directory'), { recursive: true });
    const [one, two] = [await Authority.create(directory, 'one'), await Authority.create(directory, 'two')];
    await rename(one.caPath, join(trusted, 'b.pem'));
    await rename(two.caPath, join(trusted, 'a.crt'));
    // As c_rehash leaves it, with what else lies about.
    await symlink('b.pem', join(trusted, '9d66eef0.0'));
    await symlink('nowhere.pem', join(trusted, 'dangling.0'));
    await writeFile(join(trusted, 'README'), 'authorities');
    expect((await load([], [trusted])).subjects?.sort()).toEqual(['CN=one', 'CN=two']);
  });

  test('in the layout of Kubernetes gives them through the links, and again after a swap', async () => {
    const directory = await temporaryDirectory();
    const mount = join(directory, 'mount');
    const [one, two] = [await Authority.create(directory, 'one'), await Authority.create(directory, 'two')];
    for (const [version, { caPem }] of [
      ['..2026_01_01', one],
      ['..2026_02_01', two],
    ] as const) {
      await mkdir(join(mount, version), { recursive: true });
      await writeFile(join(mount, version, 'ca.crt'), caPem);
    }
    await symlink('..2026_01_01', join(mount, '..data'));
    await symlink('..data/ca.crt', join(mount, 'ca.crt'));
    expect((await load([], [mount])).subjects).toEqual(['CN=one']);
    await symlink('..2026_02_01', join(mount, '..data_tmp'));
    await rename(join(mount, '..data_tmp'), join(mount, '..data'));
    await rm(join(mount, '..2026_01_01'), { recursive: true });
    expect((await load([], [mount])).subjects).toEqual(['CN=two']);
    expect((await load([join(mount, 'ca.crt')])).subjects).toEqual(['CN=two']);
  });

  test('with a broken certificate and a dangling link in it gives the others, and a warning names each', async () => {
    const directory = await temporaryDirectory();
    const { caPem } = await Authority.create(directory, 'good');
    const garbage = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    await symlink('nowhere.pem', join(directory, '5ed36f99.0'));
    await writeFile(join(directory, 'broken.pem'), caPem.slice(0, 200));
    await writeFile(join(directory, 'garbage.pem'), garbage);
    const { problems, subjects } = await load([], [directory]);
    expect(subjects).toEqual(['CN=good']);
    expect(problems.map(({ severity }) => severity)).toEqual(['warning', 'warning', 'warning']);
    const remedy = 'the file is skipped: remove or correct it';
    expect(problems.map(({ message }) => message)).toEqual([
      `${join(directory, '5ed36f99.0')}: no such file; ${remedy}`,
      `${join(directory, 'broken.pem')}: truncated, a certificate has no END line; ${remedy}`,
      `${join(directory, 'garbage.pem')}: certificate 1 cannot be parsed; ${remedy}`,
    ]);
  });

  test('with nothing but broken certificates is an error', async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'broken.pem'), '-----BEGIN CERTIFICATE-----');
    const { problems, subjects } = await load([], [directory]);
    expect(subjects).toBeUndefined();
    expect(problems.map(({ severity }) => severity)).toEqual(['warning', 'error']);
  });

  test('empty, or missing, is an error', async () => {
    const directory = await temporaryDirectory();
    const { problems } = await load([], [directory, join(directory, 'nowhere')]);
    expect(problems.map(({ message }) => message)).toEqual([
      `${directory}: no file in it holds a CA certificate in PEM`,
      `${join(directory, 'nowhere')}: no such file`,
    ]);
  });
});

test("the system's trust is found, and the TLS library accepts it", async () => {
  const trust = await loadSystemTrust();
  expect(trust.join('\n').match(/BEGIN CERTIFICATE/g)?.length).toBeGreaterThan(10);
  expect(rootCertificates.length).toBeGreaterThan(10);
  createSecureContext({ ca: trust });
});
