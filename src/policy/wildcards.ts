/** The wildcards among the tokens of a pattern; every other token is a character. */
const WITHIN = '*';
const ACROSS = '**';

/**
 * A text with wildcards: `*` matches any number of characters except separators, `**` any number of characters. All other
 * characters match themselves.
 */
export class WildcardPattern {
  readonly #tokens: readonly string[];
  readonly #separators: string;

  constructor(text: string, separators: string) {
    this.#separators = separators;
    this.#tokens = Array.from(text.matchAll(/\*\*+|\*|[^*]/gsu), ([token]) =>
      token.startsWith(ACROSS) ? ACROSS : token,
    );
  }

  /**
   * Follows all possible positions in the pattern at once, so the cost is at most the product of the two lengths, whatever the
   * name contains.
   */
  matches(name: string): boolean {
    const tokens = this.#tokens;
    let positions = this.#skipWildcards(new Set([0]));
    for (const character of name) {
      const next = new Set<number>();
      for (const position of positions) {
        const token = tokens[position];
        if (token === ACROSS || (token === WITHIN && !this.#separators.includes(character)))
          next.add(position);
        else if (token === character) next.add(position + 1);
      }
      if (next.size === 0) return false;
      positions = this.#skipWildcards(next);
    }
    return positions.has(tokens.length);
  }

  /** Adds the positions that are reached because a wildcard also matches nothing. */
  #skipWildcards(positions: Set<number>): Set<number> {
    // A set is iterated in the order of insertion, including what is added meanwhile.
    for (const position of positions) {
      const token = this.#tokens[position];
      if (token === WITHIN || token === ACROSS) positions.add(position + 1);
    }
    return positions;
  }
}
