/**
 * The slope of a series by Theil and Sen: the median of the slopes between all pairs, which a few samples before or
 * after a garbage collection do not move.
 * @param {readonly { seconds: number, value: number }[]} samples
 * @returns {number} a second; 0 for fewer than two
 */
export function slope(samples) {
  const slopes = samples.flatMap((later, index) =>
    samples
      .slice(0, index)
      .filter((earlier) => earlier.seconds < later.seconds)
      .map((earlier) => (later.value - earlier.value) / (later.seconds - earlier.seconds)),
  );
  return median(slopes);
}

/**
 * How much a value grows over repeated rounds of the same work. The first quarter of the rounds is warm-up: memory rises to the
 * highest level that the work needs, and stays there. A leak grows with every round.
 * @param {readonly number[]} values one per round
 * @returns {number} from the first round after the warm-up to the last; 0 for fewer than two
 */
export function growth(values) {
  const warm = values.slice(Math.ceil(values.length / 4));
  return slope(warm.map((value, index) => ({ seconds: index, value }))) * Math.max(0, warm.length - 1);
}

/**
 * @param {readonly number[]} values
 * @returns {number} 0 for none
 */
export function median(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
