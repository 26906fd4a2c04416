import type { Sidechannel, SidechannelObserver } from '../../inspect/backchannel/sidechannel.js';
import type { SidechannelCounts } from './listener-counts.js';

/** Counts one sidechannel: what it has moved since it was asked last, and how it ended. */
export class SidechannelRecord implements SidechannelObserver {
  readonly #sidechannel: Sidechannel;
  readonly #counts: SidechannelCounts;
  readonly #reported = { to_upstream: 0, to_client: 0 };
  readonly #reportedStalledMs = { to_upstream: 0, to_client: 0 };

  constructor(sidechannel: Sidechannel, counts: SidechannelCounts) {
    this.#sidechannel = sidechannel;
    this.#counts = counts;
    counts.opened++;
    counts.active++;
  }

  report(nowMs: number): void {
    const { contentBytes, windows } = this.#sidechannel;
    for (const [direction, sender] of [
      ['to_upstream', 'client'],
      ['to_client', 'server'],
    ] as const) {
      this.#counts.bytes[direction] += contentBytes[sender] - this.#reported[direction];
      this.#reported[direction] = contentBytes[sender];
      const stalledMs = windows[sender].stalledMs(nowMs);
      this.#counts.stalledMs[direction] += stalledMs - this.#reportedStalledMs[direction];
      this.#reportedStalledMs[direction] = stalledMs;
    }
  }

  ended(how: 'finished' | 'reset' | 'connection' | 'lost', nowMs: number): void {
    this.report(nowMs);
    this.#counts.active--;
    if (how !== 'finished') this.#counts.cut++;
    this.#counts.durations.observe((nowMs - this.#sidechannel.openedAtMs) / 1000, undefined);
  }
}
