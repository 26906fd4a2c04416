import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Short, so that a process that has used up its share waits only a few milliseconds. */
const PERIOD_US = 50_000;

/** The mount points of CPU control groups, version 2 and version 1. */
const HIERARCHIES = [
  {
    root: '/sys/fs/cgroup',
    mark: 'cgroup.controllers',
    limit: (/** @type {number} */ us) => ({ 'cpu.max': `${us} ${PERIOD_US}` }),
  },
  {
    root: '/sys/fs/cgroup/cpu',
    mark: 'cpu.cfs_quota_us',
    limit: (/** @type {number} */ us) => ({
      'cpu.cfs_period_us': String(PERIOD_US),
      'cpu.cfs_quota_us': String(us),
    }),
  },
];

let made = 0;

/** Limits a process to a share of a core, with a control group of Linux. Needs root. */
export class Quota {
  #directory;

  /** @param {string} directory */
  constructor(directory) {
    this.#directory = directory;
  }

  /**
   * @param {number} share of one core, above 0
   * @returns {Quota}
   * @throws if control groups are missing, or this user may not create one
   */
  static create(share) {
    const hierarchy = HIERARCHIES.find(({ root, mark }) => existsSync(join(root, mark)));
    if (hierarchy === undefined) throw new Error('CPU control groups are not mounted');
    if (hierarchy.mark === 'cgroup.controllers') enableCpu(hierarchy.root);
    const directory = join(hierarchy.root, `gitaly-tls-proxy-bench-${process.pid}-${(made += 1)}`);
    mkdirSync(directory);
    const limits = Object.entries(hierarchy.limit(Math.round(share * PERIOD_US)));
    for (const [name, value] of limits) writeFileSync(join(directory, name), value);
    return new Quota(directory);
  }

  /** @param {number} pid */
  add(pid) {
    writeFileSync(join(this.#directory, 'cgroup.procs'), String(pid));
  }

  /** Once its processes have ended. */
  remove() {
    rmdirSync(this.#directory);
  }
}

/** @param {string} root */
function enableCpu(root) {
  const path = join(root, 'cgroup.subtree_control');
  if (!readFileSync(path, 'utf8').split(/\s/).includes('cpu')) writeFileSync(path, '+cpu');
}
