import { totalmem } from 'node:os';
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';

import {
  CALL_HEAP_BYTES,
  CALLS_HEAP_SHARE,
  MAX_HEAP_SHARE,
  MAX_MEMORY_SHARE,
  MEMORY_SAMPLE_MS,
  OLD_GENERATION_SHARE,
} from '../limits.js';

const MIB = 1024 * 1024;

/** What a process uses of its memory, bytes. */
export interface MemoryUse {
  /** The old generation of the heap: what has survived, and garbage that V8 has not collected yet. */
  readonly heap: number;
  /** All of the process: heap, buffers, and what OpenSSL has. */
  readonly resident: number;
}

/**
 * Tells when a process has nearly used up its memory. Then it accepts no connection and follows no further call, so that the
 * heap never meets its limit, at which V8 ends the process with all connections.
 */
export class MemoryGuard {
  readonly #limits: MemoryUse;
  readonly #read: () => MemoryUse;
  #isLow = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(limits: MemoryUse, read: () => MemoryUse) {
    this.#limits = limits;
    this.#read = read;
  }

  /** Begins to look at the memory of this process now and then. */
  static ofProcess(): MemoryGuard {
    const limits = {
      heap: MAX_HEAP_SHARE * heapLimit(),
      resident: MAX_MEMORY_SHARE * memoryOfMachine(),
    };
    const guard = new MemoryGuard(limits, memoryUse);
    setInterval(() => guard.look(), MEMORY_SAMPLE_MS).unref();
    return guard;
  }

  /** Whether it was nearly used up when it was looked at last. */
  get isLow(): boolean {
    return this.#isLow;
  }

  /** Looks at the memory, unless that was done just now; whether it is nearly used up. */
  look(): boolean {
    const nowMs = performance.now();
    // To look takes some microseconds, and connections come in bursts.
    if (nowMs - this.#lookedAtMs < MEMORY_SAMPLE_MS / 10) return this.#isLow;
    this.#lookedAtMs = nowMs;
    const { heap, resident } = this.#read();
    this.#isLow = heap > this.#limits.heap || resident > this.#limits.resident;
    return this.#isLow;
  }
}

/** How many calls this process may follow, of all connections together. */
export function maxFollowedCalls(): number {
  return Math.floor((heapLimit() * CALLS_HEAP_SHARE) / CALL_HEAP_BYTES);
}

/**
 * How large the old generation may become. V8 tells its limit only with that of the young one, which is a small part of it
 * unless the old one was given a limit of its own.
 */
export function heapLimit(
  options: readonly string[] = [...(process.env['NODE_OPTIONS'] ?? '').split(/\s+/u), ...process.execArgv],
): number {
  const given = options.findLast((option) => /^--max[-_]old[-_]space[-_]size=\d+$/u.test(option));
  if (given !== undefined) return Number(given.split('=', 2)[1]) * MIB;
  return OLD_GENERATION_SHARE * getHeapStatistics().heap_size_limit;
}

function memoryUse(): MemoryUse {
  let heap = 0;
  for (const { space_name: name, space_used_size: bytes } of getHeapSpaceStatistics())
    if (!name.startsWith('new_')) heap += bytes;
  return { heap, resident: process.memoryUsage.rss() };
}

/** That of its container where it is limited; else Node says 0, or more than the machine has. */
function memoryOfMachine(): number {
  const ofContainer = process.constrainedMemory();
  return ofContainer > 0 ? Math.min(ofContainer, totalmem()) : totalmem();
}
