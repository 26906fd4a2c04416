import { SAME_INTERRUPT_MS } from '../limits.js';

/** What the signals of the process ask for. */
export interface SignalHandlers {
  /** SIGHUP. */
  readonly onReload: () => void;
  /** The first SIGTERM or SIGINT. */
  readonly onDrain: () => void;
  /** A second one. */
  readonly onStop: () => void;
}

/** Listens to the signals from now on; a SIGHUP never ends the process, whenever it comes. */
export function handleSignals(handlers: SignalHandlers): void {
  let draining = false;
  let interruptedAtMs = Number.NEGATIVE_INFINITY;
  const end = (): void => {
    if (draining) handlers.onStop();
    else handlers.onDrain();
    draining = true;
  };
  process.on('SIGHUP', handlers.onReload);
  process.on('SIGTERM', end);
  process.on('SIGINT', () => {
    const now = performance.now();
    const same = now - interruptedAtMs < SAME_INTERRUPT_MS;
    interruptedAtMs = now;
    if (!same) end();
  });
}
