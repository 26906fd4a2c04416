import { fileURLToPath } from 'node:url';

/** How much faster the program's clock runs with `FAST_CLOCK`. */
export const CLOCK_RATE = 4;

const nodeArgs = ['--import', fileURLToPath(new URL('program-clock.mjs', import.meta.url))];

/**
 * Options for a start: the deadlines of the program pass `CLOCK_RATE` times as fast, for a deadline that is reached while the
 * test waits for its effect. For one process only: workers could exceed the shorter deadline of their start on a busy machine.
 */
export const FAST_CLOCK = { nodeArgs, env: { CLOCK_RATE: String(CLOCK_RATE) } };

/**
 * Options for a start: `ProxyProcess.advanceClock` moves the program's clock, so that a deadline of an hour passes at once, and
 * does not pass by itself. With workers, only the clock of the primary process is moved.
 */
export const TEST_CLOCK = { nodeArgs, hasTestClock: true };
