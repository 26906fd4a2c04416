// Loaded into the program with `node --import`: its timers and its monotonic clock run CLOCK_RATE times as fast, and the
// test may advance them with a message `{ advanceMs }`. Then all timers that are due fire in order, before the answer
// `{ advanced: true }`. An advance also moves the date; the rate does not, because of certificates.
import cluster from 'node:cluster';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** @typedef {(...args: readonly unknown[]) => unknown} Callback */

const rate = Number(process.env['CLOCK_RATE'] ?? 1);
if (!(rate >= 1)) throw new Error('CLOCK_RATE is not a number from 1');

const { setTimeout, clearTimeout, Date: SystemDate } = globalThis;
const systemNow = performance.now.bind(performance);
let advancedMs = 0;
const now = () => systemNow() * rate + advancedMs;

/** Timers that have neither fired nor been cleared. @type {Set<Timer>} */
const pending = new Set();

/** Stands in for Node's `Timeout`. */
class Timer {
  /** @type {NodeJS.Timeout | undefined} */
  #system;
  #isRef = true;

  /**
   * @param {Callback} callback
   * @param {number | undefined} delayMs
   * @param {boolean} repeats
   */
  constructor(callback, delayMs, repeats) {
    this.callback = callback;
    this.delayMs = Math.max(Number(delayMs) || 0, 1);
    this.repeats = repeats;
    this.dueMs = 0;
    this.refresh();
  }

  refresh() {
    this.dueMs = now() + this.delayMs;
    pending.add(this);
    this.wait();
    return this;
  }

  /** Has the system wake the program when the timer is due. */
  wait() {
    clearTimeout(this.#system);
    this.#system = setTimeout(() => this.fire(), (this.dueMs - now()) / rate);
    if (!this.#isRef) this.#system.unref();
  }

  fire() {
    this.close();
    if (this.repeats) this.refresh();
    this.callback();
  }

  close() {
    clearTimeout(this.#system);
    pending.delete(this);
    return this;
  }

  ref() {
    this.#isRef = true;
    this.#system?.ref();
    return this;
  }

  unref() {
    this.#isRef = false;
    this.#system?.unref();
    return this;
  }

  hasRef() {
    return this.#isRef;
  }
}

/** @param {boolean} repeats */
const starter =
  (repeats) =>
  /**
   * @param {Callback} callback
   * @param {number} [delayMs]
   * @param {readonly unknown[]} args
   */
  (callback, delayMs, ...args) =>
    new Timer(() => callback(...args), delayMs, repeats);

/** @param {unknown} timer */
function clear(timer) {
  if (timer instanceof Timer) timer.close();
  else clearTimeout(/** @type {NodeJS.Timeout | undefined} */ (timer));
}

class ProgramDate extends SystemDate {
  /** @param {readonly unknown[]} args */
  constructor(...args) {
    if (args.length === 0) super(ProgramDate.now());
    else super(.../** @type {[number]} */ (args));
  }

  /** @override */
  static now() {
    return SystemDate.now() + Math.round(advancedMs);
  }
}

Object.assign(globalThis, {
  setTimeout: starter(false),
  setInterval: starter(true),
  clearTimeout: clear,
  clearInterval: clear,
  Date: ProgramDate,
});
performance.now = now;

/** @param {number} ms */
async function advance(ms) {
  const end = now() + ms;
  for (;;) {
    const [next] = [...pending].sort((one, other) => one.dueMs - other.dueMs);
    if (!next || next.dueMs > end) break;
    advancedMs += Math.max(next.dueMs - now(), 0);
    next.fire();
    await nextTurn();
  }
  advancedMs += Math.max(end - now(), 0);
  for (const timer of pending) timer.wait();
}

// The messages of a worker are those of the primary process.
if (cluster.isPrimary && process.send) {
  process.on('message', (/** @type {{ readonly advanceMs: number }} */ { advanceMs }) => {
    void advance(advanceMs).then(() => process.send?.({ advanced: true }));
  });
  process.channel?.unref();
}
