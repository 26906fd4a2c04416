import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** A file below `test/` and words of a test's name, as documents cite them. */
const CITATION = /`((?:[a-z0-9-]+\/)+[a-z0-9-]+):\s+([^`]+)`/gu;

/** Text on one line, with quotation marks as in a document. */
function plain(text: string): string {
  return text.replaceAll(/\s+/gu, ' ').replaceAll("\\'", "'").trim();
}

const documents = readdirSync(`${ROOT}docs`).filter((name) => name.endsWith('.md'));

test.each(documents)('every test that docs/%s cites exists', (name) => {
  const citations = [...readFileSync(`${ROOT}docs/${name}`, 'utf8').matchAll(CITATION)];
  const missing = citations.filter(([, file = '', words = '']) => {
    const path = `${ROOT}test/${file}.test.ts`;
    return !existsSync(path) || !plain(readFileSync(path, 'utf8')).includes(plain(words));
  });
  expect(missing.map(([citation]) => citation)).toEqual([]);
});
