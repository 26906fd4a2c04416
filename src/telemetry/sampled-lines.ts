import { MAX_SAMPLED_SUBJECTS, SAMPLED_LINE_MS } from '../limits.js';

/** Decides which events of a kind are logged: the first of each subject, and after that one per `SAMPLED_LINE_MS`. */
export class SampledLines {
  /** By subject, the least recently logged first. */
  readonly #subjects = new Map<string, { loggedAtMs: number; unlogged: number }>();

  /** @returns the number of events since the previous line of this subject, this one included, or `undefined`: it is not logged */
  admit(subject: string, nowMs: number): number | undefined {
    const known = this.#subjects.get(subject);
    if (known && nowMs - known.loggedAtMs < SAMPLED_LINE_MS) {
      known.unlogged++;
      return undefined;
    }
    this.#subjects.delete(subject);
    for (const oldest of this.#subjects.keys()) {
      if (this.#subjects.size < MAX_SAMPLED_SUBJECTS) break;
      this.#subjects.delete(oldest);
    }
    this.#subjects.set(subject, { loggedAtMs: nowMs, unlogged: 0 });
    return (known?.unlogged ?? 0) + 1;
  }
}
