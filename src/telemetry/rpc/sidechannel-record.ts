import type { Sidechannel, SidechannelObserver } from '../../inspect/backchannel/sidechannel.js';
import type { Sender } from '../../inspect/sender.js';
import type { SidechannelCounts } from './listener-counts.js';

/** Counts the bytes and the result of one sidechannel. */
export class SidechannelRecord implements SidechannelObserver {
  readonly #sidechannel: Sidechannel;
  readonly #counts: SidechannelCounts;

  constructor(sidechannel: Sidechannel, counts: SidechannelCounts) {
    this.#sidechannel = sidechannel;
    this.#counts = counts;
    counts.opened++;
    counts.active++;
  }

  moved(sender: Sender, bytes: number): void {
    this.#counts.bytes[sender === 'client' ? 'to_upstream' : 'to_client'] += bytes;
  }

  ended(how: 'finished' | 'reset' | 'connection' | 'lost', nowMs: number): void {
    this.#counts.active--;
    if (how !== 'finished') this.#counts.cut++;
    this.#counts.durations.observe((nowMs - this.#sidechannel.openedAtMs) / 1000, undefined);
  }
}
