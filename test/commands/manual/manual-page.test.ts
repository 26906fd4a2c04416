import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

import { manualPage } from '../../../src/commands/manual/manual-command.js';
import { COMMANDS } from '../../../src/commands/table.js';
import { isInstalled } from '../../support/shell.js';

const unescaped = manualPage(COMMANDS).replaceAll(String.raw`\-`, '-');

test('the manual names each command, each flag and each example', () => {
  for (const { name, flags, examples } of COMMANDS) {
    expect(unescaped).toContain(`\n.SS ${name}\n`);
    for (const flag of flags) expect(unescaped).toContain(`\n.B --${flag.name}`);
    for (const { line } of examples) expect(unescaped).toContain(`\n${line}\n`);
  }
});

test('no text is taken for a macro', () => {
  const MACROS = /^\.(TH|SH|SS|B|TP|PP|EX|EE|in|br)\b/u;
  for (const line of unescaped.split('\n')) if (/^[.']/u.test(line)) expect(line).toMatch(MACROS);
});

test.skipIf(!isInstalled('groff'))('groff sets it without a warning', () => {
  const { status, stderr, stdout } = spawnSync('groff', ['-man', '-ww', '-Tutf8'], {
    input: manualPage(COMMANDS),
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toContain('gitaly-tls-proxy configuration validate');
});
