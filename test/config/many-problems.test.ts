import { describe, expect, test } from 'vitest';

import { judgeText } from '../../src/config/load.js';
import { formatProblem } from '../../src/config/problem.js';
import { settingsSchema } from '../../src/config/schema.js';

const options = { file: 'proxy.yaml', directory: '/nonexistent', env: {} };
const FEW = 2000;
const TIMES = 4;
/** Work per line takes four times as long for four times the lines, and work per pair of lines sixteen times. */
const MOST_TIMES = 10;

const LISTENER = 'listeners:\n  - listen: tcp://127.0.0.1:1\n    forward: tcp://127.0.0.1:2\n';

/** A line per number. */
function lines(count: number, make: (index: number) => string): string {
  return `${Array.from({ length: count }, (_, index) => make(index)).join('\n')}\n`;
}

/** Judges a text and prints its problems; counts them, and the CPU time that it takes, ms. */
async function judge(text: string): Promise<{ problems: number; cpuMs: number }> {
  const before = process.cpuUsage();
  const result = await judgeText(text, options);
  const shown = result.problems.map((problem) => formatProblem(problem, result));
  const { user } = process.cpuUsage(before);
  return { problems: shown.length, cpuMs: user / 1000 };
}

const TLS = '    tls: { certificate_path: c, key_path: k }\n';

describe('the time to judge a file grows with its length alone', () => {
  test.each<[string, (count: number) => string]>([
    ['unknown keys', (count) => LISTENER + lines(count, (i) => `key${i}: ${i}`)],
    ['unknown keys of a listener', (count) => LISTENER + lines(count, (i) => `    key${i}: ${i}`)],
    ['the same key again', (count) => LISTENER + lines(count + 1, () => 'workers: 2')],
    [
      'bad listeners',
      (count) =>
        `listeners:\n${lines(count, (i) => `  - { listen: 'tcp://127.0.0.1:${i + 1}', forward: 1 }`)}`,
    ],
    [
      'bad addresses by server name',
      (count) =>
        `listeners:\n  - listen: tls://127.0.0.1:1\n${TLS}    forward_by_server_name:\n` +
        lines(count, (i) => `      a${i}.test: x${i}`),
    ],
    [
      'bad networks',
      (count) =>
        `${LISTENER}    proxy_protocol:\n      accept_from:\n${lines(count, (i) => `        - 300.0.0.${i}`)}`,
    ],
  ])(
    '%s',
    async (_name, make) => {
      await judge(make(FEW));
      const few = await judge(make(FEW));
      const many = await judge(make(FEW * TIMES));
      expect([few.problems, many.problems]).toEqual([FEW, FEW * TIMES]);
      expect(many.cpuMs / few.cpuMs).toBeLessThan(MOST_TIMES);
    },
    60_000,
  );
});

describe('a wrong number is reported with the valid range', () => {
  test.each([
    ['logging: { rpc_sampling: 2 }', 'logging.rpc_sampling: expected a number from 0 to 1 (got 2)'],
    ['logging: { rpc_sampling: -0.1 }', 'logging.rpc_sampling: expected a number from 0 to 1 (got -0.1)'],
    ['logging: { rpc_sampling: .inf }', 'logging.rpc_sampling: expected a number from 0 to 1 such as 0.01'],
    ['workers: all', 'workers: expected "auto" or a whole number from 1 to 256 (got "all")'],
    ['workers: 0', 'workers: expected "auto" or a whole number from 1 to 256 (got 0)'],
    ['workers: 1.5', 'workers: expected "auto" or a whole number from 1 to 256'],
    ['workers: 1000', 'workers: expected "auto" or a whole number from 1 to 256 (got 1000)'],
    ['workers:', 'workers: the key has no value: expected "auto" or a whole number from 1 to 256'],
    ['max_connections: 1e300', 'max_connections: expected a whole number of at least 1'],
    [
      'max_connections: many',
      'max_connections: expected a whole number of at least 1 such as 10000 (got "many")',
    ],
  ])('%s', async (line, message) => {
    const result = await judgeText(`${LISTENER}${line}\n`, options);
    expect(result.problems.map((problem) => formatProblem(problem, result)).join()).toContain(message);
  });
});

/** The paths of all settings, as they would be written in a file with one value. */
function settings(): { path: string[]; yaml: (value: string) => string }[] {
  const found: string[][] = [];
  const visit = (schema: unknown, path: string[]): void => {
    const inner = unwrap(schema);
    if (typeof inner !== 'object' || inner === null) return;
    if ('shape' in inner && typeof inner.shape === 'object' && inner.shape !== null) {
      for (const [key, value] of Object.entries(inner.shape)) visit(value, [...path, key]);
      if (path.length > 0) found.push(path);
    } else {
      found.push(path);
      if ('element' in inner) visit(inner.element, [...path, '-']);
    }
  };
  visit(settingsSchema, []);
  return found
    .filter((path) => path.at(-1) !== '-')
    .map((path) => ({
      path,
      yaml: (value) =>
        path.reduceRight((text, key) => (key === '-' ? `[${text}]` : `{${key}: ${text}}`), value),
    }));
}

function unwrap(schema: unknown): unknown {
  const isOptional =
    typeof schema === 'object' && schema !== null && 'unwrap' in schema && !('element' in schema);
  return isOptional && typeof schema.unwrap === 'function'
    ? unwrap((schema.unwrap as () => unknown)())
    : schema;
}

test('no message of the schema library is shown, whichever value a setting has', async () => {
  const values = [
    '~',
    'true',
    '0',
    '-1',
    '1.5',
    '.nan',
    '.inf',
    '1e300',
    "''",
    'x',
    '[]',
    '{}',
    '[[]]',
    '[~]',
    '{a: 1}',
    '{a: {}}',
  ];
  const leaked: string[] = [];
  for (const { path, yaml } of settings()) {
    for (const value of values) {
      const result = await judgeText(yaml(value), options);
      for (const { message } of result.problems)
        if (/Invalid|Too (?:small|big)|received|NaN|Unrecognized|undefined|null|\[object/u.test(message))
          leaked.push(`${path.join('.')}: ${value}: ${message}`);
    }
  }
  expect(leaked).toEqual([]);
});
