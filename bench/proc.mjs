import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ, the unit of CPU times in /proc: 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/**
 * One line of /proc/PID/stat.
 * @typedef {object} ProcessStat
 * @property {number} pid
 * @property {number} parent
 * @property {number} ownTicks utime + stime, of all threads, ended ones included
 * @property {number} childTicks the same of children that ended and were waited for
 */

/**
 * All processes at one moment. Those that end while the list is read are omitted.
 * @returns {ProcessStat[]}
 */
function processes() {
  const found = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const text = readOrUndefined(`/proc/${name}/stat`);
    if (text === undefined) continue;
    // The program's name is in parentheses and may contain any character; the fields after it are numbered from 3.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const field = (/** @type {number} */ number) => Number(fields[number - 3]);
    found.push({
      pid: Number(name),
      parent: field(4),
      ownTicks: field(14) + field(15),
      childTicks: field(16) + field(17),
    });
  }
  return found;
}

/**
 * A process and all its descendants.
 * @param {number} root
 * @param {ProcessStat[]} all
 * @returns {ProcessStat[]}
 */
function tree(root, all) {
  const inside = new Set([root]);
  for (let size = 0; size !== inside.size;) {
    size = inside.size;
    for (const each of all) if (inside.has(each.parent)) inside.add(each.pid);
  }
  return all.filter((each) => inside.has(each.pid));
}

/**
 * The ids of a process and all its descendants.
 * @param {number} root
 * @returns {number[]}
 */
export function processTree(root) {
  return tree(root, processes()).map(({ pid }) => pid);
}

/**
 * The CPU that a tree of processes has used.
 * @typedef {object} CpuReading
 * @property {number} ticks utime + stime in hundredths of a second
 * @property {Map<string, bigint>} threads nanoseconds on a CPU by thread, the same sum at the scheduler's precision
 */

/**
 * @param {number} root
 * @returns {CpuReading}
 */
export function readCpu(root) {
  const members = tree(root, processes());
  /** @type {Map<string, bigint>} */
  const threads = new Map();
  for (const { pid } of members) {
    for (const thread of listOrEmpty(`/proc/${pid}/task`)) {
      const text = readOrUndefined(`/proc/${pid}/task/${thread}/schedstat`);
      if (text !== undefined) threads.set(thread, BigInt(text.split(' ')[0] ?? '0'));
    }
  }
  return { ticks: members.reduce((sum, each) => sum + each.ownTicks + each.childTicks, 0), threads };
}

/**
 * Seconds of CPU used between two readings. If both contain the same threads, their own clocks are used, with a
 * precision of nanoseconds; otherwise (stunnel has one thread per connection) the process's counter, in hundredths of a second.
 * @param {CpuReading} before
 * @param {CpuReading} after
 * @returns {number}
 */
export function cpuSecondsBetween(before, after) {
  const sameThreads =
    before.threads.size > 0 &&
    before.threads.size === after.threads.size &&
    [...before.threads.keys()].every((thread) => after.threads.has(thread));
  if (!sameThreads) return (after.ticks - before.ticks) / TICKS_PER_SECOND;
  let nanoseconds = 0n;
  for (const [thread, start] of before.threads) nanoseconds += (after.threads.get(thread) ?? start) - start;
  return Number(nanoseconds) / 1e9;
}

/**
 * Memory of a tree of processes: Pss, so that shared memory counts once.
 * @param {number} root
 * @returns {number} KiB
 */
export function readMemoryKib(root) {
  return tree(root, processes()).reduce((sum, { pid }) => {
    const text = readOrUndefined(`/proc/${pid}/smaps_rollup`) ?? '';
    return sum + Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0);
  }, 0);
}

/**
 * Counters of disturbances, in seconds of CPU.
 * @typedef {object} SystemReading
 * @property {number} at seconds, of a clock that only goes forward
 * @property {number} stolenSeconds taken by the hypervisor from all CPUs
 * @property {number} othersSeconds used by processes that are not the bench's; kernel threads do not count, since the
 *   load's own network traffic runs there
 */

/** @returns {SystemReading} */
export function readSystem() {
  const all = processes();
  const ours = new Set(tree(process.pid, all).map((each) => each.pid));
  const kernel = new Set(tree(2, all).map((each) => each.pid));
  // An ended child moves its time to its parent's childTicks: the sum of both neither loses nor counts it twice.
  const others = all.filter((each) => !ours.has(each.pid) && !kernel.has(each.pid));
  const cpu = readFileSync('/proc/stat', 'utf8').split('\n')[0]?.trim().split(/\s+/) ?? [];
  return {
    at: performance.now() / 1000,
    stolenSeconds: Number(cpu[8] ?? 0) / TICKS_PER_SECOND,
    othersSeconds: others.reduce((sum, each) => sum + each.ownTicks + each.childTicks, 0) / TICKS_PER_SECOND,
  };
}

/** @param {string} path */
function readOrUndefined(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** @param {string} path */
function listOrEmpty(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
