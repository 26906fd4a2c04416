import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Compiles the modules that the runs share with the tests: they are TypeScript, which Node 20 cannot run. */
export async function buildSupport() {
  await promisify(execFile)(
    process.execPath,
    ['node_modules/typescript/bin/tsc', '-p', 'soak/tsconfig.build.json'],
    {
      cwd: ROOT,
    },
  );
}

/**
 * The modules of `test/support` that the runs use.
 * @typedef {{
 *   authority: typeof import('../test/support/authority.js'),
 *   'certificate-chains': typeof import('../test/support/certificate-chains.js'),
 *   'http2-frames': typeof import('../test/support/http2-frames.js'),
 *   'log-lines': typeof import('../test/support/log-lines.js'),
 *   'toxic/toxic-network': typeof import('../test/support/toxic/toxic-network.js'),
 * }} Support
 */

/**
 * A compiled module of `test/support`.
 * @template {keyof Support} Name
 * @param {Name} name
 * @returns {Promise<Support[Name]>}
 */
export async function importSupport(name) {
  /** @type {unknown} */
  const loaded = await import(new URL(`../.cache/soak/built/test/support/${name}.js`, import.meta.url).href);
  return /** @type {Support[Name]} */ (loaded);
}
