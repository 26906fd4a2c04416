import fc from 'fast-check';
import { expect, test } from 'vitest';

import { assignmentsIn } from '../../../src/commands/import/ruby/assignments.js';
import { statementsOf } from '../../../src/commands/import/ruby/statements.js';
import { RubyFault } from '../../../src/commands/import/ruby/ruby-token.js';
import { tokenize } from '../../../src/commands/import/ruby/tokenize.js';
import { shell, isInstalled } from '../../support/shell.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';
import { plainOf, UNREAD } from './plain.js';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The value of one literal. */
function read(text: string): unknown {
  const root = assigned(`gitaly['y'] = ${text}`);
  if (typeof root !== 'object' || root === null || !('gitaly' in root)) return undefined;
  const { gitaly } = root;
  return typeof gitaly === 'object' && gitaly !== null && 'y' in gitaly ? gitaly.y : undefined;
}

function assigned(text: string): unknown {
  return plainOf(assignmentsIn(statementsOf(tokenize(text)), ['gitaly'], []).root);
}

/** A literal as Ruby writes it, and what it says. */
interface Written {
  readonly text: string;
  readonly value: unknown;
}

const content = fc.string({
  unit: fc.constantFrom(
    'a',
    'b',
    '1',
    ' ',
    "'",
    '"',
    '#',
    '{',
    '}',
    '[',
    ']',
    '(',
    ')',
    ',',
    '=',
    '>',
    ':',
    '\\',
    '/',
    '%',
    '?',
    '|',
    ';',
    '&',
    '<',
    '-',
    '~',
    '.',
    '\n',
    'é',
    'end',
    'do',
    'if',
    '<<A',
  ),
  maxLength: 8,
});
const name = fc.constantFrom('a', 'tls', 'listen_addr', 'if', 'end', 'do', 'class', 'nil', 'ENV');
const gap = fc.constantFrom('', ' ', '\n', '  # a "comment\' {\n', '\n\n\t');

const singleQuoted = content.map((value) => ({ text: `'${value.replaceAll(/[\\']/gu, '\\$&')}'`, value }));
const doubleQuoted = content.map((value) => ({ text: `"${value.replaceAll(/[\\"#]/gu, '\\$&')}"`, value }));
const plain = fc.constantFrom<Written>(
  { text: 'true', value: true },
  { text: 'false', value: false },
  { text: 'nil', value: null },
  { text: '8075', value: 8075 },
  { text: '-1_0', value: -10 },
  { text: '1.5', value: 1.5 },
  { text: ':tcp', value: 'tcp' },
  { text: ":'a b'", value: 'a b' },
);
const scalar = fc.oneof<fc.Arbitrary<Written>[]>(singleQuoted, doubleQuoted, plain);
const key = fc.oneof<fc.Arbitrary<Written>[]>(
  name.map((value) => ({ text: `${value}:`, value })),
  name.map((value) => ({ text: `:${value} =>`, value })),
  singleQuoted.map(({ text, value }) => ({ text: `${text} =>`, value })),
  doubleQuoted.map(({ text, value }) => ({ text: `${text}:`, value })),
);
const { value } = fc.letrec<{ value: Written }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.tuple(fc.array(tie('value'), { maxLength: 3 }), gap).map(([items, space]) => ({
      text: `[${space}${items.map(({ text }) => text).join(`,${space}`)}${space}]`,
      value: items.map((item) => item.value),
    })),
    fc.tuple(fc.array(fc.tuple(key, tie('value')), { maxLength: 4 }), gap).map(([entries, space]) => ({
      text: `{${space}${entries.map(([one, other]) => `${one.text} ${other.text}`).join(`,${space}`)}${space}}`,
      value: Object.fromEntries(
        entries.map(([one, other]): [string, unknown] => [String(one.value), other.value]),
      ),
    })),
  ),
}));

test('whatever literal is written, it is read as what it says', () => {
  fc.assert(
    fc.property(value, value, (one, other) => {
      const text = `gitaly['one'] = ${one.text}\ngitaly['other'] = ${other.text} # end\n`;
      expect(assigned(text)).toEqual({ gitaly: { one: one.value, other: other.value } });
    }),
    { numRuns: 500 },
  );
});

test('whatever is done to a literal afterwards, it is not read as what it was', () => {
  const after = fc.constantFrom(
    '.to_s',
    ' if x',
    ' + y',
    ' || y',
    '.map { |z| z }',
    ' unless File.exist?("/x")',
    ', 1',
  );
  fc.assert(
    fc.property(value, after, ({ text }, more) => {
      expect(assigned(`gitaly['one'] = ${text}${more}\n`)).toEqual({ gitaly: { one: UNREAD } });
      expect(assigned(`gitaly['one'] = { a: [${text}${more.startsWith(',') ? '' : more}.x] }\n`)).toEqual({
        gitaly: { one: { a: [UNREAD] } },
      });
    }),
    { numRuns: 300 },
  );
});

test('whatever text a file is, it is read or refused', () => {
  const piece = fc.constantFrom(
    ...`gitaly['a'] = |{ |} |[ |] |( |) |"|'|#{|<<~A|A|%w[|/|?|:|,|=>|do |end|if |\n|\\|=begin|=end|__END__|x |1|.|$'`.split(
      '|',
    ),
    '|',
  );
  const texts = fc.oneof(
    fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join('')),
    fc.string({ unit: 'binary', maxLength: 200 }),
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        assigned(text);
      } catch (error) {
        if (!(error instanceof RubyFault)) throw error;
        expect(error.line).toBeGreaterThan(0);
      }
    }),
    { numRuns: 1000 },
  );
});

// Where Ruby is not installed, there is nobody to ask.
test.skipIf(!isInstalled('ruby'))('Ruby itself reads these literals alike', async () => {
  const programs = fc.sample(value, 300).map(({ text }) => `{ "x" => ${text} }`);
  const directory = await temporaryDirectory();
  const script = join(directory, 'literals.rb');
  const result = join(directory, 'result.json');
  const evaluated = programs.map((program) => `results << (\n${program}\n)`).join('\n');
  await writeFile(
    script,
    `require 'json'\nresults = []\n${evaluated}\nFile.write('${result}', JSON.generate(results))\n`,
  );
  const { exitCode, output } = await shell(`ruby -W0 '${script}' && cat '${result}'`);
  expect(exitCode, output).toBe(0);
  // A hash of Ruby's takes 'a' and :a for two keys, which become one in JSON as in Omnibus.
  const ruby: unknown = JSON.parse(output);
  expect(ruby).toEqual(programs.map(read));
});
