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

/** The memory usage of a process, in bytes. */
export interface MemoryUse {
  /** The old generation of the heap: surviving objects, and garbage that V8 has not collected yet. */
  readonly heap: number;
  /** The whole process: heap, buffers, and OpenSSL's memory. */
  readonly resident: number;
}

/**
 * Detects that a process has nearly exhausted its memory. It then refuses connections and follows no further calls, so that the
 * heap never reaches its limit, at which V8 would end the process with all its connections.
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

  /** Starts to check the memory of this process periodically. */
  static ofProcess(): MemoryGuard {
    const limits = {
      heap: MAX_HEAP_SHARE * heapLimit(),
      resident: MAX_MEMORY_SHARE * memoryOfMachine(),
    };
    const guard = new MemoryGuard(limits, memoryUse);
    setInterval(() => guard.look(), MEMORY_SAMPLE_MS).unref();
    return guard;
  }

  /** Whether memory was nearly exhausted at the last check. */
  get isLow(): boolean {
    return this.#isLow;
  }

  /** Checks the memory, unless it was checked just now. Returns whether it is nearly exhausted. */
  look(): boolean {
    const nowMs = performance.now();
    // A check takes 15 µs, and connections arrive in bursts.
    if (nowMs - this.#lookedAtMs < MEMORY_SAMPLE_MS / 2) return this.#isLow;
    this.#lookedAtMs = nowMs;
    const { heap, resident } = this.#read();
    this.#isLow = heap > this.#limits.heap || resident > this.#limits.resident;
    return this.#isLow;
  }
}

/** The number of calls that this process may follow, over all connections. */
export function maxFollowedCalls(): number {
  return Math.floor((heapLimit() * CALLS_HEAP_SHARE) / CALL_HEAP_BYTES);
}

/**
 * The maximum size of the old generation. V8 reports its limit only together with that of the young generation, which is a
 * small part of it unless the old generation was given its own limit.
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

/** The limit of the container, if there is one; otherwise Node returns 0, or more than the machine has. */
function memoryOfMachine(): number {
  const ofContainer = process.constrainedMemory();
  return ofContainer > 0 ? Math.min(ofContainer, totalmem()) : totalmem();
}
