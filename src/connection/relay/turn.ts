/** Collects work within one turn of the event loop and does it at the end of the turn. */
export interface TurnTask {
  /** Must not throw, because the tasks of other connections follow. */
  endOfTurn(): void;
}

let waiting: TurnTask[] = [];
let running: TurnTask[] = [];

/**
 * Runs a task's `endOfTurn` once, after all input of this turn of the event loop has been read. All connections
 * share one `setImmediate`, so that its cost per connection is negligible under load.
 */
export function atEndOfTurn(task: TurnTask): void {
  if (waiting.length === 0) setImmediate(run);
  waiting.push(task);
}

function run(): void {
  [running, waiting] = [waiting, running];
  for (const task of running) task.endOfTurn();
  running.length = 0;
}
