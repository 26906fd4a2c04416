import { beforeValue, isMark, isWord, RubyFault, type Token } from './ruby-token.js';

/** Keywords that open a block wherever they occur. `end` closes it. */
const OPENERS = ['begin', 'case', 'class', 'def', 'module', 'for'];
/** Keywords that open a block where a value can begin. After a value, they are modifiers. */
const CONDITIONS = ['if', 'unless', 'while', 'until'];
/** Keywords after which a condition is a modifier. */
const LEAVING = ['return', 'yield'];
/** Keywords whose `do` does not open a further block. */
const LOOPS = ['while', 'until', 'for'];

/** Tracks open blocks and brackets, token by token. */
export class Nesting {
  #blocks = 0;
  #brackets = 0;
  #loopWaitsForDo = false;
  #last: Token | undefined;

  /** Whether no block and no bracket is open. */
  get isFlat(): boolean {
    return this.#blocks === 0 && this.#brackets === 0;
  }

  /** The number of open blocks. */
  get blocks(): number {
    return this.#blocks;
  }

  /** @throws {RubyFault} for a superfluous `end`. */
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
      if (this.#blocks < 0) throw new RubyFault('this end has no beginning', token.line);
    }
  }
}
