import { expect, test } from 'vitest';

import { isPrintable, printable } from '../src/printable.js';

test('every character that is blank is escaped, and of the spaces U+0020 alone is not', () => {
  const blank = /[\p{White_Space}\p{Default_Ignorable_Code_Point}]/u;
  for (let code = 0; code <= 0x10_ffff; code++) {
    const character = String.fromCodePoint(code);
    if (character !== ' ' && blank.test(character))
      expect(isPrintable(character), code.toString(16)).toBe(false);
  }
  expect(printable('a b\u00a0c\u3164')).toBe('a b\\u00a0c\\u3164');
});

test('letters, marks and symbols of any script are printable', () => {
  const text = 'Gitälý 中 עברית हिन्दी 🦊 e\u0301';
  expect(printable(text)).toBe(text);
});
