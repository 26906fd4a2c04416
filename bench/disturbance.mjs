import { availableParallelism } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { readSystem } from './proc.mjs';

/** The shares of all CPU time above which a measurement does not count. */
const MAX_STOLEN = 0.02;
const MAX_OTHERS = 0.04;

/** The timeout for a quiet machine, and the window that is observed. */
const QUIET_WAIT_MS = 20_000;
const QUIET_WINDOW_MS = 400;

/**
 * Whether something else used the machine between two readings.
 * @param {import('./proc.mjs').SystemReading} before
 * @param {import('./proc.mjs').SystemReading} after
 * @returns {string | undefined} what, with its share; undefined for an undisturbed interval
 */
export function disturbanceBetween(before, after) {
  const capacity = (after.at - before.at) * availableParallelism();
  const stolen = (after.stolenSeconds - before.stolenSeconds) / capacity;
  const others = (after.othersSeconds - before.othersSeconds) / capacity;
  if (stolen > MAX_STOLEN) return `${percent(stolen)} of the CPU stolen by the hypervisor`;
  if (others > MAX_OTHERS) return `${percent(others)} of the CPU used by other processes`;
  return undefined;
}

/**
 * Waits, for a while, until others leave the machine alone.
 * @param {AbortSignal} signal
 * @returns {Promise<boolean>} false if they did not
 */
export async function quietMachine(signal) {
  for (const deadline = Date.now() + QUIET_WAIT_MS; Date.now() < deadline;) {
    const before = readSystem();
    await pause(QUIET_WINDOW_MS, undefined, { signal });
    if (disturbanceBetween(before, readSystem()) === undefined) return true;
  }
  return false;
}

/** @param {number} share */
function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}
