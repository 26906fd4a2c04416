import { execFile } from 'node:child_process';
import { access, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, outputOfFailed } from './peers/peer.mjs';

const run = promisify(execFile);

/** The first build fetches grpc-go. */
const BUILD_MS = 10 * 60 * 1000;

/**
 * Builds the load, or uses the existing one if Go is not installed. Go's own cache makes a second build fast.
 * @param {string} root the checkout
 * @returns {Promise<string>} the program's path
 */
export async function buildLoad(root) {
  const program = join(root, '.cache/bench/load');
  const go = await findProgram('go');
  if (go === undefined) {
    await access(program).catch(() => {
      throw new Error('the load is written in Go: install Go to build it');
    });
    return program;
  }
  await mkdir(join(root, '.cache/bench'), { recursive: true });
  await build(go, ['build', '-buildvcs=false', '-o', program, '.'], join(root, 'bench/load'));
  return program;
}

/**
 * Builds the proxy.
 * @param {string} root the checkout
 * @returns {Promise<string>} the program's path
 */
export async function buildProxy(root) {
  await build('npm', ['run', '--silent', 'build'], root);
  return join(root, 'dist/cli.js');
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {string} cwd
 */
async function build(command, args, cwd) {
  await run(command, args, { cwd, timeout: BUILD_MS }).catch((/** @type {unknown} */ error) => {
    throw new Error(`${command} ${args.join(' ')} failed:\n${outputOfFailed(error) || String(error)}`);
  });
}
