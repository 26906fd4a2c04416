import { readdir, readFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));

/** The modules that a file imports, statically or dynamically, and those that it would have to `require`. */
function importsOf(code: string): string[] {
  const statement = /^(?:import|\} from|import .* from|export .* from) "([^"]+)";$/gmu;
  return [statement, /\bimport\("([^"]+)"\)/gu, /\b__require\("([^"]+)"\)/gu].flatMap((pattern) =>
    [...code.matchAll(pattern)].map(([, path = '']) => path),
  );
}

async function builtFiles(): Promise<string[]> {
  return (await readdir(DIST, { recursive: true })).filter((name) => name.endsWith('.js'));
}

test('the built program imports no package: it runs without node_modules', async () => {
  const imports = new Set<string>();
  for (const name of await builtFiles()) {
    for (const path of importsOf(await readFile(`${DIST}/${name}`, 'utf8'))) imports.add(path);
  }
  expect(imports).toContain('node:tls');
  expect([...imports].filter((path) => !path.startsWith('.') && !isBuiltin(path))).toEqual([]);
});

test('cli.js, the demo’s backend and its certificates import nothing before they handle SIGUSR1', async () => {
  for (const name of ['cli.js', 'demo/serve-backend.js', 'demo/write-certificates.js']) {
    const code = await readFile(`${DIST}/${name}`, 'utf8');
    const handled = code.search(/process\.on\((?:signal|"SIGUSR1")/u);
    expect(handled).toBeGreaterThan(0);
    expect(code.search(/^import |^\} from |\bimport\(/mu)).toBeGreaterThan(handled);
  }
});

test('the licence of each package in the program is distributed with it', async () => {
  const licences = await readFile(`${DIST}/LICENSES.txt`, 'utf8');
  const included = new Set<string>();
  for (const name of await builtFiles()) {
    const code = await readFile(`${DIST}/${name}`, 'utf8');
    for (const [, folder = ''] of code.matchAll(/^\/\/ node_modules\/((?:@[^/\s]+\/)?[^/\s]+)/gmu))
      included.add(folder);
  }
  expect(included).toContain('prom-client');
  const listed = new Set([...licences.matchAll(/^(\S+) \d\S* \(\S.*\)$/gmu)].map(([, name = '']) => name));
  expect([...listed].toSorted()).toEqual([...included].toSorted());
});
