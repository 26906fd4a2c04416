import { describe, expect, test } from 'vitest';

import { findingsIn, proseOfCode, proseOfMarkdown, RULES } from '../scripts/words.mjs';

describe('each rule of the words check finds its example and leaves the better wording', () => {
  test.each(RULES.map((rule) => [rule.name, rule] as const))('%s', (_, rule) => {
    expect(findingsIn(rule.finds).map(({ rule: found }) => found.name)).toContain(rule.name);
    expect(findingsIn(rule.leaves)).toEqual([]);
  });
});

test('the words check reads comments and sentences in strings, but neither code nor single words', () => {
  const code = [
    "import { said } from './what was said.js';",
    '/** Why it ended. @param {string} told the reason */',
    "const said = 'said'; // behind code",
    "throw new Error('the peer said nothing');",
    'log(`template of ${said} and more`);',
  ].join('\n');
  expect(proseOfCode('example.ts', code).map(({ line, text }) => [line, text.trim()])).toEqual([
    [2, 'Why it ended. . the reason'],
    [3, 'behind code'],
    [4, 'the peer said nothing'],
    [5, 'template of'],
    [5, 'and more'],
  ]);
});

test('the words check reads the paragraphs and table cells of a document, without its code', () => {
  const markdown = [
    '# Title',
    '',
    'A sentence',
    'in two lines.',
    '',
    '```',
    'nobody',
    '```',
    '| one | two |',
  ].join('\n');
  const texts = proseOfMarkdown(markdown).map(({ text }) => text.trim());
  expect(texts.filter((text) => text !== '')).toEqual(['Title', 'A sentence in two lines.', 'one', 'two |']);
});

test('the words check finds nothing in code between backquotes', () => {
  expect(findingsIn('The message is `nobody said so`.')).toEqual([]);
});
