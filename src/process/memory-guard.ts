import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';

import {
  CALL_HEAP_BYTES,
  CALLS_HEAP_SHARE,
  MAX_HEAP_SHARE,
  MAX_MEMORY_SHARE,
  MEMORY_SAMPLE_MS,
} from '../limits.js';

/** What a process uses of its memory, and may use, bytes. */
export interface MemoryUse {
  readonly heap: number;
  readonly heapLimit: number;
  /** All of the process: heap, buffers, and what OpenSSL has. */
  readonly resident: number;
  readonly residentLimit: number;
}

/**
 * Tells when a process has nearly used up its memory. Then it accepts no connection and follows no further call, so that the
 * heap never meets its limit, at which V8 ends the process with all connections.
 */
export class MemoryGuard {
  readonly #read: () => MemoryUse;
  #isLow = false;

  constructor(read: () => MemoryUse = memoryUse) {
    this.#read = read;
    this.look();
  }

  /** Begins to look at the memory now and then. */
  static ofProcess(): MemoryGuard {
    const guard = new MemoryGuard();
    setInterval(() => guard.look(), MEMORY_SAMPLE_MS).unref();
    return guard;
  }

  /** Whether it is nearly used up. */
  get isLow(): boolean {
    return this.#isLow;
  }

  /** Looks at the memory. */
  look(): void {
    const { heap, heapLimit, resident, residentLimit } = this.#read();
    this.#isLow = heap > MAX_HEAP_SHARE * heapLimit || resident > MAX_MEMORY_SHARE * residentLimit;
  }
}

/** How many calls this process may follow, of all connections together. */
export function maxFollowedCalls(): number {
  return Math.floor((getHeapStatistics().heap_size_limit * CALLS_HEAP_SHARE) / CALL_HEAP_BYTES);
}

function memoryUse(): MemoryUse {
  const { used_heap_size: heap, heap_size_limit: heapLimit } = getHeapStatistics();
  return { heap, heapLimit, resident: process.memoryUsage.rss(), residentLimit };
}

const residentLimit = memoryOfMachine();

/** That of its container where it is limited; else Node says 0, or more than the machine has. */
function memoryOfMachine(): number {
  const ofContainer = process.constrainedMemory();
  return ofContainer > 0 ? Math.min(ofContainer, totalmem()) : totalmem();
}
