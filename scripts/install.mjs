// Installs and builds what a clone needs to run; Node's own modules only, since nothing else is there yet.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Ends this process with a message if this Node is too old for the program. */
function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  console.error(`gitaly-tls-proxy needs Node 20.19 or newer; this is ${process.versions.node}`);
  process.exit(1);
}

/**
 * Runs a command and shows its output; ends this process if it fails.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {Readonly<Record<string, string>>} [environment] added to this process's
 */
export function run(command, args, environment = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  if (error) console.error(`${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/**
 * Runs a tool of node_modules.
 * @param {string} path in node_modules
 * @param {readonly string[]} args
 * @param {Readonly<Record<string, string>>} [environment]
 */
export function runTool(path, args, environment) {
  run(process.execPath, [`node_modules/${path}`, ...args], environment);
}

/** @typedef {Record<string, { version?: string, integrity?: string, optional?: boolean }>} Packages */

/**
 * The packages that a lock file names, by their folder; undefined without such a file.
 * @param {string} path
 * @returns {Packages | undefined}
 */
function lockedPackages(path) {
  try {
    /** @type {unknown} */
    const lock = JSON.parse(readFileSync(new URL(`../${path}`, import.meta.url), 'utf8'));
    return /** @type {{ packages: Packages }} */ (lock).packages;
  } catch {
    return undefined;
  }
}

/**
 * Whether node_modules matches package-lock.json, by the list that npm keeps in it. File times prove nothing: git sets
 * a new one at each checkout, and an installation of an older lock file may be younger than a newer one.
 */
function isInstalled() {
  const wanted = lockedPackages('package-lock.json');
  const present = lockedPackages('node_modules/.package-lock.json');
  if (!wanted || !present) return false;
  return Object.entries(wanted).every(([folder, { version, integrity, optional }]) => {
    if (folder === '') return true;
    const found = present[folder];
    // npm skips optional packages of other platforms.
    if (!found) return optional === true;
    return found.version === version && found.integrity === integrity;
  });
}

/** `npm ci` if node_modules differs from the lock file, then the build. */
export function installAndBuild() {
  checkNode();
  if (!isInstalled()) {
    // The compiler is among the development dependencies, which NODE_ENV=production would leave out.
    run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']);
  }
  run(process.execPath, ['scripts/build.mjs']);
}
