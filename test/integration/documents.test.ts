import { existsSync, readdirSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { getCiphers } from 'node:tls';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { speaking, TLS_VERSIONS, tlsClient } from '../support/clients.js';
import { startSetup } from '../support/setup.js';

const TESTS = fileURLToPath(new URL('..', import.meta.url));
const DOCUMENTS = fileURLToPath(new URL('../../docs', import.meta.url));
const SOAK = fileURLToPath(new URL('../../soak/run.mjs', import.meta.url));

describe('docs/security.md', () => {
  test.each(TLS_VERSIONS)('lists the cipher suites that the running proxy offers in %s', async (version) => {
    const [, list = ''] = new RegExp(`^- ${version}: (.*)$`, 'm').exec(await document('security.md')) ?? [];
    const listed = [...list.matchAll(/`([\w-]+)`/g)].map(([, name = '']) => name);
    expect(listed.length).toBeGreaterThan(2);
    // One certificate of each kind, so that no suite is missed for want of a key.
    const setup = await startSetup(async (ca) => {
      const rsa = await ca.server({ keyType: 'rsa', dns: ['rsa.test'] });
      return {
        tls: { certificates: [{ certificate_path: rsa.certificatePath, key_path: rsa.keyPath }] },
      };
    });
    const offered: string[] = [];
    const isOfVersion = (name: string) => name.startsWith('TLS_') === (version === 'TLSv1.3');
    for (const name of getCiphers()
      .map((each) => each.toUpperCase())
      .filter(isOfVersion)) {
      for (const servername of ['localhost', 'rsa.test']) {
        const ciphers = version === 'TLSv1.3' ? name : `${name}:@SECLEVEL=0`;
        const options = { ...speaking(version), ca: setup.ca.caPem, servername, ciphers };
        const client = await tlsClient(setup.port, options).catch(() => undefined);
        if (!client) continue;
        client.destroy();
        if (!offered.includes(name)) offered.push(name);
      }
    }
    expect(offered.sort()).toEqual(listed.sort());
    await setup.proxy.endsWithNothingLeaked();
  });
});

test.each(['security.md', 'reliability.md'])('docs/%s names tests and runs that are there', async (name) => {
  const sources = new Map<string, string>();
  for (const path of await readdir(TESTS, { recursive: true })) {
    if (path.endsWith('.test.ts'))
      sources.set(path.slice(0, -'.test.ts'.length), await readFile(join(TESTS, path), 'utf8'));
  }
  const text = await document(name);
  // `folder/file: words`, or `folder/file` or `file: words` where there is such a folder or file of tests.
  const folders = new Set(
    [...sources.keys()].filter((file) => file.includes('/')).map((file) => file.split('/')[0]),
  );
  const named = [...text.matchAll(/`([\w-]+)(\/[\w/-]+)?(?:: ([^`]+))?`/g)].filter(
    ([, first = '', rest, words]) =>
      rest === undefined
        ? words !== undefined && sources.has(first)
        : words !== undefined || folders.has(first),
  );
  expect(named.length).toBeGreaterThan(20);
  const wrong = named.filter(
    ([, first = '', rest = '', words = '']) => !sources.get(first + rest)?.includes(words),
  );
  expect(wrong.map(([reference]) => reference)).toEqual([]);
  const runs = await readFile(SOAK, 'utf8');
  for (const [, run = ''] of text.matchAll(/`soak ([\w-]+)`/g))
    expect(runs).toMatch(new RegExp(`^  '?${run}'?[:,]`, 'm'));
});

const PAGES = ['../README.md', ...readdirSync(DOCUMENTS).filter((name) => name.endsWith('.md'))];
/** Pages that name metrics without the prefix, and state this. */
const REFERENCES = new Set(['metrics.md', 'log-events.md']);

test.each([...PAGES, '../CHANGELOG.md', '../CONTRIBUTING.md', '../SECURITY.md'])(
  'each link of docs/%s to a file of the repository leads to that file, and to its heading if it names one',
  async (name) => {
    const broken: string[] = [];
    for (const [, link = ''] of withoutCode(await document(name)).matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
      const [path = '', heading] = link.split('#');
      const target = path === '' ? join(DOCUMENTS, name) : join(DOCUMENTS, dirname(name), path);
      const isFound =
        existsSync(target) &&
        (heading === undefined || headingsOf(await readFile(target, 'utf8')).has(heading));
      if (!isFound) broken.push(link);
    }
    expect(broken).toEqual([]);
  },
);

test('docs/README.md lists every page', async () => {
  const index = await document('README.md');
  const pages = PAGES.filter((name) => !name.endsWith('README.md'));
  expect(pages.filter((name) => !index.includes(`](${name})`))).toEqual([]);
});

test('README.md has at most 200 lines', async () => {
  const readme = await readFile(join(DOCUMENTS, '../README.md'), 'utf8');
  expect(readme.trimEnd().split('\n').length).toBeLessThanOrEqual(200);
});

describe.each(PAGES.filter((name) => !REFERENCES.has(name)))('docs/%s', (name) => {
  test('writes names of metrics with their prefix', async () => {
    const [, table = ''] = /^## Ours$([^]*?)^#/m.exec(await document('metrics.md')) ?? [];
    const metrics = [...table.matchAll(/^\| `(\w+)`/gm)].map(([, metric = '']) => metric);
    expect(metrics.length).toBeGreaterThan(30);
    // Words that are metrics too, such as `workers`, are settings as well.
    const long = metrics.filter((metric) => metric.includes('_'));
    const text = await document(name);
    expect(long.filter((metric) => new RegExp(`(?<![\\w#])${metric}(?!\\w)`).test(text))).toEqual([]);
  });

  test('puts sockets of the proxy where a service user can create them', async () => {
    const listened = [...(await document(name)).matchAll(/listen: (unix:\S+)/g)].map(([, url = '']) => url);
    expect(listened.filter((url) => !/^unix:(?:\/run\/gitaly-tls-proxy\/|\/…)/.test(url))).toEqual([]);
  });
});

function withoutCode(markdown: string): string {
  return markdown.replaceAll(/^```[^]*?^```/gm, '');
}

/** The anchors of the headings, as GitHub makes them. */
function headingsOf(markdown: string): ReadonlySet<string> {
  return new Set(
    [...withoutCode(markdown).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}_\- ]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** With the lines of a paragraph joined, as a reader sees them. */
async function document(name: string): Promise<string> {
  return (await readFile(join(DOCUMENTS, name), 'utf8')).replaceAll(/\n {2}(?=\S)/g, ' ');
}
