import type { ConnectionBudget } from '../connection/connection-budget.js';
import { DescriptorBudget } from './descriptor-budget.js';
import { MemoryGuard } from './memory-guard.js';

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
