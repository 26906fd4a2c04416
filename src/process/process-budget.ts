import { readdirSync, readFileSync } from 'node:fs';

import type { ConnectionBudget } from '../connection/admission.js';
import { MemoryGuard } from './memory-guard.js';
import { DESCRIPTORS_PER_CONNECTION, RESERVED_DESCRIPTORS } from '../limits.js';

/**
 * Keeps the process below its limit of open files. Node says nothing when `accept` finds none left: it takes the
 * connection with a descriptor kept for that and closes it unseen. So we refuse before that, and count.
 */
export class DescriptorBudget {
  readonly #connectionsMax: number;
  #taken = 0;

  /** `connectionsMax`: how many connections the descriptors suffice for. */
  constructor(connectionsMax: number) {
    this.#connectionsMax = connectionsMax;
  }

  /** What this process may open still, less a reserve; without limit where the system does not tell. */
  static ofProcess(): DescriptorBudget {
    const limit = softLimit();
    const free = limit - openDescriptors() - RESERVED_DESCRIPTORS;
    return new DescriptorBudget(Math.max(1, Math.floor(free / DESCRIPTORS_PER_CONNECTION)));
  }

  /** Reserves the descriptors for one more connection; `false` if there are not enough. */
  take(): boolean {
    if (this.#taken >= this.#connectionsMax) return false;
    this.#taken++;
    return true;
  }

  giveBack(): void {
    this.#taken--;
  }
}

/** Linux, proc(5): `Max open files            1024                 1048576              files`. */
function softLimit(): number {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

function openDescriptors(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 0;
  }
}

/** The resources of this process for connections: file descriptors and memory. */
export class ProcessBudget implements ConnectionBudget {
  readonly #descriptors = DescriptorBudget.ofProcess();
  readonly #memory = MemoryGuard.ofProcess();

  get isMemoryLow(): boolean {
    return this.#memory.isLow;
  }

  lookAtMemory(): boolean {
    return this.#memory.look();
  }

  take(): boolean {
    return this.#descriptors.take();
  }

  giveBack(): void {
    this.#descriptors.giveBack();
  }
}
