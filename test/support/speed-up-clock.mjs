// Loaded into the program with `node --import`: its timers and its monotonic clock run CLOCK_RATE times as fast, so that
// a test of a long deadline need not wait for it. Dates stay as they are, for certificates.
const rate = Number(process.env['CLOCK_RATE']);
if (!(rate >= 1)) throw new Error('CLOCK_RATE is not a number from 1');

/** @typedef {(callback: unknown, delayMs?: number, ...args: readonly unknown[]) => unknown} StartTimer */

for (const name of ['setTimeout', 'setInterval']) {
  /** @type {unknown} */
  const original = Reflect.get(globalThis, name);
  const start = /** @type {StartTimer} */ (original);
  /** @type {StartTimer} */
  const startFaster = (callback, delayMs = 0, ...args) => start(callback, delayMs / rate, ...args);
  Reflect.set(globalThis, name, startFaster);
}

const now = performance.now.bind(performance);
performance.now = () => now() * rate;
