import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { COMPLETIONS } from '../../../src/commands/completion/write-completion.js';
import { COMMANDS } from '../../../src/commands/table.js';
import { isInstalled } from '../../support/shell.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

/** What bash proposes for the last word of a line; `compopt` where it completes by itself. */
function bash(words: readonly string[]): string[] {
  const script = `
    compopt() { COMPREPLY=("compopt $*"); }
    eval "$1"
    shift
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _gitaly_tls_proxy
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  return lines(
    execFileSync('bash', ['--norc', '-c', script, 'bash', COMPLETIONS.bash(COMMANDS), ...words], {
      encoding: 'utf8',
    }),
  );
}

/** What fish proposes, without what it says of each. */
async function fish(words: readonly string[]): Promise<string[]> {
  const directory = await temporaryDirectory();
  const script = join(directory, 'completion.fish');
  await writeFile(script, COMPLETIONS.fish(COMMANDS));
  await writeFile(join(directory, 'some-file.pem'), '');
  const output = execFileSync(
    'fish',
    ['--no-config', '-c', `source ${script}; complete -C '${words.join(' ')}'`],
    {
      encoding: 'utf8',
      cwd: directory,
      env: { ...process.env, HOME: directory },
    },
  );
  return lines(output).map((line) => line.replace(/\t.*/u, ''));
}

/** What zsh is told: the words that are described, of which it takes those that fit, or the specifications of arguments. */
function zsh(words: readonly string[]): string[] {
  const script = `
    compdef() { : }
    _describe() { print -rl -- \${(M)\${next%%:*}:#$words[CURRENT]*} }
    _arguments() { print -rl -- "words $words" "current $CURRENT" "$@" }
    eval "$1"
    shift
    words=("$@") CURRENT=$#
    _gitaly-tls-proxy`;
  return lines(
    execFileSync('zsh', ['-f', '-c', script, 'zsh', COMPLETIONS.zsh(COMMANDS), ...words], {
      encoding: 'utf8',
    }),
  );
}

const lines = (output: string): string[] => output.split('\n').filter((line) => line !== '');
const FIRST_WORDS = [...new Set(COMMANDS.map(({ name }) => name.replace(/ .*/u, '')))].sort();
const SERVE_FLAGS = (COMMANDS[0]?.flags ?? []).map(({ name }) => `--${name}`);
const PROGRAM = 'gitaly-tls-proxy';

describe.skipIf(!isInstalled('bash'))('bash completes', () => {
  test.each<[what: string, words: string[], proposed: string[]]>([
    ['commands', [''], FIRST_WORDS],
    ['a command that is begun', ['dem'], ['demo']],
    ['commands of two words', ['configuration', 'val'], ['validate']],
    ['flags of the command', ['serve', '--client'], ['--client-ca', '--client-auth']],
    ['flags of serve, where no command is given', ['--fo'], ['--forward']],
    ['flags of serve after flags alone', ['--listen', 'x', '--fo'], ['--forward']],
    ['one of some values', ['serve', '--client-auth', 'req'], ['require']],
    ['a value behind an equals sign', ['serve', '--client-auth', '=', 'req'], ['require']],
    ['a value right after an equals sign', ['--client-auth', '='], ['none', 'report', 'optional', 'require']],
    ['files after a flag', ['serve', '--key', 'k'], ['compopt -o default']],
    ['files of a command', ['configuration', 'validate', 'g'], ['compopt -o default']],
    ['nothing where nothing is known', ['serve', '--listen', 't'], []],
    ['words of a command', ['completion', ''], ['bash', 'zsh', 'fish']],
  ])('%s', (_what, words, proposed) => {
    expect(bash([PROGRAM, ...words]).sort()).toEqual([...proposed].sort());
  });
});

describe.skipIf(!isInstalled('fish'))('fish completes', () => {
  test.each<[what: string, words: string[], proposed: string[]]>([
    ['commands', [''], FIRST_WORDS],
    ['commands of two words', ['configuration', 'val'], ['validate']],
    ['flags of the command', ['serve', '--client'], ['--client-ca', '--client-auth']],
    ['flags of serve, where no command is given', ['--fo'], ['--forward']],
    ['one of some values', ['serve', '--client-auth', 'req'], ['require']],
    ['files after a flag', ['serve', '--key', 'some'], ['some-file.pem']],
    ['files of a command', ['configuration', 'validate', 'some'], ['some-file.pem']],
    ['no file where nothing is known', ['serve', '--listen', 'some'], []],
    ['words of a command', ['completion', ''], ['bash', 'zsh', 'fish']],
  ])('%s', async (_what, words, proposed) => {
    expect((await fish([PROGRAM, ...words])).sort()).toEqual([...proposed].sort());
  });
});

describe.skipIf(!isInstalled('zsh'))('zsh completes', () => {
  test.each<[what: string, words: string[], proposed: string[]]>([
    ['commands', [''], FIRST_WORDS],
    ['commands of two words', ['configuration', 'val'], ['validate']],
  ])('%s', (_what, words, proposed) => {
    expect(zsh([PROGRAM, ...words]).sort()).toEqual([...proposed].sort());
  });

  test.each<[what: string, words: string[], left: string]>([
    ['one word', ['serve', '--cert', 'a', '--k'], `words ${PROGRAM} --cert a --k`],
    ['two words', ['configuration', 'validate', 'x'], `words ${PROGRAM} x`],
    ['no word', ['--cert', 'a', '--k'], `words ${PROGRAM} --cert a --k`],
  ])('the arguments of a command of %s', (_what, words, left) => {
    const [given, current] = zsh([PROGRAM, ...words]);
    expect({ given, current }).toEqual({ given: left, current: `current ${left.split(' ').length - 1}` });
  });

  test('each flag with its value', () => {
    const told = zsh([PROGRAM, 'serve', '']).join('\n');
    for (const flag of SERVE_FLAGS) expect(told).toMatch(new RegExp(`^\\S*( -.\\))?${flag}=\\[`, 'mu'));
    expect(told).toContain(':none|report|optional|require:(none report optional require)');
    expect(told).toMatch(/--key=\[.*\]:FILE:_files$/mu);
  });
});
