import { SAME_INTERRUPT_MS } from '../limits.js';

/** The handlers of the signals of the process. */
export interface SignalHandlers {
  /** SIGHUP; also SIGUSR1, at which ghostunnel and HAProxy reload. */
  readonly onReload: () => void;
  /** The first SIGTERM, SIGINT or SIGQUIT. */
  readonly onDrain: () => void;
  /** A second one of these. */
  readonly onStop: () => void;
  /** SIGUSR2. */
  readonly onIgnored: (signal: NodeJS.Signals) => void;
}

/** Starts to handle the signals. Only the second signal to stop ends the process immediately. */
export function handleSignals(handlers: SignalHandlers): void {
  let draining = false;
  let interruptedAtMs = Number.NEGATIVE_INFINITY;
  const end = (): void => {
    if (draining) handlers.onStop();
    else handlers.onDrain();
    draining = true;
  };
  for (const signal of ['SIGHUP', 'SIGUSR1'] as const) process.on(signal, handlers.onReload);
  for (const signal of ['SIGTERM', 'SIGQUIT'] as const) process.on(signal, end);
  process.on('SIGINT', () => {
    const now = performance.now();
    const same = now - interruptedAtMs < SAME_INTERRUPT_MS;
    interruptedAtMs = now;
    if (!same) end();
  });
  process.on('SIGUSR2', handlers.onIgnored);
}

/** For a worker, which a terminal and a service manager also signal: only the primary process acts on these signals. */
export function ignoreSignals(): void {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const)
    process.on(signal, () => undefined);
}
