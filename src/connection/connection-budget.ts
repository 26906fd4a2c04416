/** The memory and descriptors that all listeners of the process share. */
export interface ConnectionBudget {
  /** Whether memory was nearly exhausted recently: new connections are refused then. */
  readonly isMemoryLow: boolean;
  /** Whether memory is nearly exhausted now. */
  lookAtMemory(): boolean;
  /** Reserves the descriptors for one more connection. Returns whether enough were left. */
  take(): boolean;
  giveBack(): void;
}
