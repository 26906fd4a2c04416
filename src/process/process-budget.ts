import { readdirSync, readFileSync } from 'node:fs';

import type { ConnectionBudget } from '../connection/admission.js';
import { MemoryGuard } from './memory-guard.js';
import { DESCRIPTORS_PER_CONNECTION, RESERVED_DESCRIPTORS } from '../limits.js';

/**
 * Keeps the process below its limit on open files. When `accept` finds no free descriptor, Node accepts the connection with a
 * spare descriptor and closes it without an event. So connections are refused and counted before that happens.
 */
export class DescriptorBudget {
  readonly #connectionsMax: number;
  #taken = 0;

  /** @param connectionsMax - the number of connections for which the descriptors suffice */
  constructor(connectionsMax: number) {
    this.#connectionsMax = connectionsMax;
  }

  /** Creates a budget of the descriptors that this process may still open, less a reserve. Unlimited if the limit is unknown. */
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

/** Reads the limit on Linux, proc(5): `Max open files            1024                 1048576              files`. */
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
