import { RubyFault } from './ruby-token.js';

/** A text with a current position. */
export class Source {
  #position = 0;
  #line = 1;

  constructor(readonly text: string) {}

  get line(): number {
    return this.#line;
  }

  get atEnd(): boolean {
    return this.#position >= this.text.length;
  }

  /** Whether a line begins here. */
  get atLineStart(): boolean {
    return this.#position === 0 || this.text[this.#position - 1] === '\n';
  }

  /** The next character, or one after it; `''` at the end. */
  peek(ahead = 0): string {
    return this.text[this.#position + ahead] ?? '';
  }

  /** The match of a sticky pattern (flag y) at the current position, which does not move. */
  match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#position;
    return pattern.exec(this.text) ?? undefined;
  }

  /** Consumes this number of characters. */
  take(length: number): string {
    const taken = this.text.slice(this.#position, this.#position + length);
    this.#position += taken.length;
    for (const character of taken) if (character === '\n') this.#line += 1;
    return taken;
  }

  /** The rest of this line, and all further lines. */
  rest(): { readonly line: string; readonly below: string } {
    const end = this.text.indexOf('\n', this.#position);
    if (end < 0) return { line: this.text.slice(this.#position), below: '' };
    return { line: this.text.slice(this.#position, end), below: this.text.slice(end + 1) };
  }

  fault(message: string, line = this.#line): RubyFault {
    return new RubyFault(message, line);
  }
}
