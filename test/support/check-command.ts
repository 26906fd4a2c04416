import { fileURLToPath } from 'node:url';

import { CLI } from './proxy-process.js';
import { shell, type CommandResult } from './shell.js';

/** One step of `check --json`. */
export interface CheckedStep {
  readonly name: string;
  readonly result: 'passed' | 'failed' | 'skipped';
  readonly detail: string;
  readonly cure?: string;
  readonly warning?: string;
  readonly [fact: string]: unknown;
}

/** What `check --json` prints. */
export interface Checked {
  readonly passed: boolean;
  readonly targets: readonly {
    readonly address: string;
    readonly role: string;
    readonly passed: boolean;
    readonly steps: readonly CheckedStep[];
    readonly endpoints: readonly {
      readonly address: string;
      readonly passed: boolean;
      readonly steps: readonly CheckedStep[];
    }[];
  }[];
}

const RESOLVE_NAMES = fileURLToPath(new URL('resolve-names.mjs', import.meta.url));

/** An environment in which `gitaly.test` has these addresses; with none, it does not exist. */
export function namedTo(addresses: readonly string[]): Readonly<Record<string, string>> {
  return { RESOLVE_NAMES: JSON.stringify({ 'gitaly.test': addresses }) };
}

/** Runs `check` with these arguments, each a word without quotes. */
export function runCheck(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const node = [process.execPath, ...('RESOLVE_NAMES' in env ? ['--import', RESOLVE_NAMES] : [])];
  const words = [...node, CLI, 'check', ...args].map((word) => `'${word}'`);
  return shell(words.join(' '), { NODE_OPTIONS: '', ...env });
}

/** Runs it with `--json`; all steps of the first address of the first target by name, those of its name too. */
export async function checkSteps(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{
  readonly exitCode: number | null;
  readonly step: (name: string) => CheckedStep;
  readonly checked: Checked;
}> {
  const { exitCode, output } = await runCheck([...args, '--json'], env);
  const checked = JSON.parse(output) as Checked;
  const [target] = checked.targets;
  const steps = [...(target?.steps ?? []), ...(target?.endpoints[0]?.steps ?? [])];
  const step = (name: string): CheckedStep => {
    const found = steps.find((each) => each.name === name);
    if (!found) throw new Error(`no step ${name} in ${output}`);
    return found;
  };
  return { exitCode, step, checked };
}
