import { beforeValue, isMark, isWord, RubyFault, type Token } from './ruby-token.js';

/** They open what `end` closes, wherever they stand. */
const OPENERS = ['begin', 'case', 'class', 'def', 'module', 'for'];
/** They do so where a value may begin; after a value they are its condition. */
const CONDITIONS = ['if', 'unless', 'while', 'until'];
/** A condition behind them is theirs. */
const LEAVING = ['return', 'yield'];
/** Their `do` opens nothing more. */
const LOOPS = ['while', 'until', 'for'];

/** Follows what `end`, `}`, `]` and `)` close, token by token. */
export class Nesting {
  #blocks = 0;
  #brackets = 0;
  #loopWaitsForDo = false;
  #last: Token | undefined;

  /** Whether nothing is open. */
  get isFlat(): boolean {
    return this.#blocks === 0 && this.#brackets === 0;
  }

  /** How many blocks are open. */
  get blocks(): number {
    return this.#blocks;
  }

  /** @throws {RubyFault} for an `end` too many. */
  follow(token: Token): void {
    if (isMark(token, '(', '[', '{')) this.#brackets += 1;
    else if (isMark(token, ')', ']', '}')) this.#brackets -= 1;
    else if (token.type === 'newline') this.#loopWaitsForDo = false;
    else if (token.type === 'word' && !isMark(this.#last, '.', '&.', '::')) this.#followWord(token);
    this.#last = token;
  }

  #followWord(token: Token): void {
    const beginsValue = beforeValue(this.#last) === 'yes' && !isWord(this.#last, ...LEAVING);
    if (isWord(token, ...OPENERS) || (beginsValue && isWord(token, ...CONDITIONS))) {
      this.#blocks += 1;
      this.#loopWaitsForDo = isWord(token, ...LOOPS);
    } else if (isWord(token, 'do')) {
      if (!this.#loopWaitsForDo) this.#blocks += 1;
      this.#loopWaitsForDo = false;
    } else if (isWord(token, 'end')) {
      this.#blocks -= 1;
      if (this.#blocks < 0) throw new RubyFault('an end closes nothing', token.line);
    }
  }
}
