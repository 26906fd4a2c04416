// One attacker, a separate process so that its work does not delay others: `node attacker.mjs NAME`. It reads its target
// as a line of JSON, attacks until its standard input ends, and prints the results. Strokes that last longer are cut.
import { once } from 'node:events';
import { constants, setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { createInterface } from 'node:readline';
import { ATTACKS } from './attacks.mjs';

// A stranger's CPU is not the proxy's: on one machine it must not be taken from the proxy and from the polite load.
setPriority(constants.priority.PRIORITY_LOW);
const attack = ATTACKS[process.argv[2] ?? ''];
if (attack === undefined) throw new Error(`there is no attack ${process.argv[2]}`);
const lines = createInterface(process.stdin);
let over = false;
const ended = once(lines, 'close').then(() => (over = true));
/** @type {Promise<unknown>} */
const parsed = new Promise((resolve) => {
  lines.once('line', (line) => resolve(JSON.parse(line)));
});
const target = /** @type {import('./attacks.mjs').Target} */ (await parsed);

/** How long strokes may take to end by themselves. */
const END_MS = 1000;

/** Between two attackers of a crowd. */
const ARRIVAL_MS = 10;

/** @param {Error & { code?: string }} error */
function failureOf(error) {
  return error.code === 'ECONNRESET' ? 'reset' : error.message.trim();
}

/** @type {Map<string, number>} */
const outcomes = new Map();
let strokes = 0;
const attacked = Promise.all(
  Array.from({ length: attack.concurrency }, async (_, number) => {
    // A crowd does not arrive in one moment.
    await pause(number * ARRIVAL_MS);
    while (!over) {
      const index = strokes;
      strokes += 1;
      const outcome = await attack.stroke(target, index).catch(failureOf);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      await pause(attack.pauseMs);
    }
  }),
);
await ended;
await Promise.race([attacked, pause(END_MS)]);
console.log(JSON.stringify({ event: 'done', strokes, outcomes: Object.fromEntries(outcomes) }));
process.exit();
