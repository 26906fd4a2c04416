import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startBackend } from './bench.mjs';
import { stopAll } from './children.mjs';

/**
 * Creates the resources that all proxies of a run share: a private directory, the certificate, the backend. When `run`
 * has ended, they are removed and all children are stopped.
 * @template T
 * @param {string} root the checkout
 * @param {string} load the load's program
 * @param {(stage: import('./running-peer.mjs').Stage) => Promise<T>} run
 * @returns {Promise<T>}
 */
export async function onStage(root, load, run) {
  const parent = join(root, '.cache/bench');
  await mkdir(parent, { recursive: true });
  const directory = await mkdtemp(join(parent, 'run-'));
  try {
    await promisify(execFile)(load, ['certificate', '--out', directory]);
    const path = (/** @type {string} */ name) => join(directory, name);
    const files = { cert: path('cert.pem'), key: path('key.pem'), both: path('both.pem') };
    const { port: backendPort, pid: backendPid } = await startBackend(load);
    return await run({ directory, backendPort, backendPid, files });
  } finally {
    await stopAll();
    await rm(directory, { recursive: true, force: true });
  }
}
