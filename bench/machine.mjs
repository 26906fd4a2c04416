import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { versionOf } from './peers/peer.mjs';

/**
 * The machine of the measurement.
 * @typedef {object} Machine
 * @property {string} cpu
 * @property {number} cores
 * @property {number} memoryGib
 * @property {string} kernel
 * @property {string} distribution
 * @property {string} go
 */

/** @returns {Promise<Machine>} */
export async function describeMachine() {
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
    distribution: /^PRETTY_NAME="?([^"\n]*)/m.exec(osRelease)?.[1] ?? 'unknown',
    go: await versionOf('go', ['version'], /go version go(\S+)/),
  };
}
