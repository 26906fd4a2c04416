import type { Verdict } from './judge.js';
import { FAULTS, isHarmless } from './plan.js';

/** Counts how connections went. */
export class Tally {
  connections = 0;
  /** Content bytes of both ways of those that carried all. */
  wholeBytes = 0;
  readonly #faults = new Map<string, number>();
  readonly #paces = new Map<string, number>();
  readonly #clients = new Map<string, number>();
  readonly #reasons = new Map<string, number>();
  readonly #kinds = new Map<string, number>();

  add({ evidence, reason, initiator }: Verdict): void {
    const { plan, happened, client } = evidence;
    this.connections++;
    if (client?.what === 'all') this.wholeBytes += plan.bytes.up + plan.bytes.down;
    for (const { kind, side } of happened) count(this.#faults, `${kind}, ${side}`);
    for (const side of [plan.paces.near, plan.paces.far]) {
      for (const { latencyMs, jitterMs, slices } of [side.up, side.down]) {
        if (latencyMs + jitterMs > 0) count(this.#paces, 'late');
        if (slices !== 'as they come') count(this.#paces, slices);
      }
    }
    const lot = isHarmless(plan) ? 'only slow' : 'harmed';
    count(
      this.#clients,
      `${lot}: ${client?.what ?? 'nothing'}${client?.what === 'error' ? ` ${client.how}` : ''}`,
    );
    count(this.#reasons, `${reason} by ${initiator}`);
    count(this.#kinds, `${plan.kind}, ${plan.route}`);
  }

  /** The faults that never came to pass, by name and side: `reset, near`. */
  get missing(): string[] {
    return FAULTS.flatMap((kind) => [`${kind}, near`, `${kind}, far`]).filter(
      (name) => !this.#faults.has(name),
    );
  }

  /** What was done and what came of it, in lines. */
  get text(): string {
    return [
      `${this.connections} connections: ${list(this.#kinds)}`,
      `ways that were slow: ${list(this.#paces)}`,
      `faults that came to pass: ${list(this.#faults)}`,
      `what clients saw: ${list(this.#clients)}`,
      `how the proxy ended them: ${list(this.#reasons)}`,
      `${(this.wholeBytes / 1024 ** 2).toFixed(0)} MiB of content compared, byte by byte, where all of it came`,
    ].join('\n');
  }
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function list(counts: ReadonlyMap<string, number>): string {
  return [...counts]
    .sort(([one], [other]) => one.localeCompare(other))
    .map(([name, times]) => `${times} ${name}`)
    .join('; ');
}
