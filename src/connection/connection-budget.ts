/** What all listeners of the process share. */
export interface ConnectionBudget {
  /** Whether memory was nearly exhausted recently: new connections are refused then. */
  readonly isMemoryLow: boolean;
  /** Whether memory is nearly exhausted now. */
  lookAtMemory(): boolean;
  /** Whether descriptors for one more connection are left; if so, they are taken. */
  take(): boolean;
  giveBack(): void;
}
