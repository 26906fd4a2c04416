/**
 * @typedef {object} Summary
 * @property {number} median
 * @property {number} low the smallest sample
 * @property {number} high the largest sample
 * @property {number} samples how many
 */

/**
 * @param {number[]} values
 * @returns {Summary | undefined} undefined for no values
 */
export function summarize(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[0];
  const high = sorted.at(-1);
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  const upper = sorted[Math.ceil((sorted.length - 1) / 2)];
  if (low === undefined || high === undefined || lower === undefined || upper === undefined) return undefined;
  return { median: (lower + upper) / 2, low, high, samples: sorted.length };
}

/**
 * The ratios round by round: a temporary slowdown affects both, so the ratios vary less than two medians.
 * @param {ReadonlyMap<number, number>} values by round
 * @param {ReadonlyMap<number, number>} references by round
 * @returns {Summary | undefined} undefined where no round has both
 */
export function summarizeRatios(values, references) {
  const ratios = [];
  for (const [round, value] of values) {
    const reference = references.get(round);
    if (reference !== undefined && reference > 0) ratios.push(value / reference);
  }
  return summarize(ratios);
}

/**
 * The differences round by round.
 * @param {ReadonlyMap<number, number>} values by round
 * @param {ReadonlyMap<number, number>} references by round
 * @returns {Summary | undefined} undefined where no round has both
 */
export function summarizeDifferences(values, references) {
  const differences = [];
  for (const [round, value] of values) {
    const reference = references.get(round);
    if (reference !== undefined) differences.push(value - reference);
  }
  return summarize(differences);
}

/**
 * Three significant digits, without an exponent.
 * @param {number} value
 */
export function threeDigits(value) {
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 4));
}
