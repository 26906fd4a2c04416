// One attacker, a separate process so that its work does not delay others: `node attacker.mjs NAME`. It reads its target
// as a line of JSON, attacks until its standard input ends, and prints the results.
import { setTimeout as pause } from 'node:timers/promises';
import { createInterface } from 'node:readline';
import { ATTACKS } from './attacks.mjs';

const attack = ATTACKS[process.argv[2] ?? ''];
if (attack === undefined) throw new Error(`there is no attack ${process.argv[2]}`);
const lines = createInterface(process.stdin);
let over = false;
lines.once('close', () => (over = true));
/** @type {Promise<unknown>} */
const parsed = new Promise((resolve) => {
  lines.once('line', (line) => resolve(JSON.parse(line)));
});
const target = /** @type {import('./attacks.mjs').Target} */ (await parsed);

/** @type {Map<string, number>} */
const outcomes = new Map();
let strokes = 0;
await Promise.all(
  Array.from({ length: attack.concurrency }, async () => {
    while (!over) {
      const index = strokes;
      strokes += 1;
      const outcome = await attack
        .stroke(target, index)
        .catch((/** @type {unknown} */ error) => (error instanceof Error ? error.message : String(error)));
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      await pause(attack.pauseMs);
    }
  }),
);
console.log(JSON.stringify({ event: 'done', strokes, outcomes: Object.fromEntries(outcomes) }));
process.exit();
