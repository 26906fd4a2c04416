import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Compiles what the runs share with the tests, which is TypeScript: Node 20 does not run it as it is. */
export async function buildSupport() {
  await promisify(execFile)(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'soak'], {
    cwd: ROOT,
  });
}

/**
 * A module of `test/support`, once it is compiled.
 * @param {string} name
 */
export function importSupport(name) {
  return import(new URL(`../.cache/soak/built/test/support/${name}.js`, import.meta.url).href);
}
