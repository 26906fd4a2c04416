import { RubyFault } from './ruby-token.js';

/** A text that is read from its beginning to its end. */
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

  /** The character that comes next, or one after it; `''` at the end. */
  peek(ahead = 0): string {
    return this.text[this.#position + ahead] ?? '';
  }

  /** What a pattern (sticky: flag y) finds right here, which is not taken. */
  match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#position;
    return pattern.exec(this.text) ?? undefined;
  }

  /** Takes so many characters. */
  take(length: number): string {
    const taken = this.text.slice(this.#position, this.#position + length);
    this.#position += taken.length;
    for (const character of taken) if (character === '\n') this.#line += 1;
    return taken;
  }

  /** What is left of this line, and all that follows it. */
  rest(): { readonly line: string; readonly below: string } {
    const end = this.text.indexOf('\n', this.#position);
    if (end < 0) return { line: this.text.slice(this.#position), below: '' };
    return { line: this.text.slice(this.#position, end), below: this.text.slice(end + 1) };
  }

  fault(message: string, line = this.#line): RubyFault {
    return new RubyFault(message, line);
  }
}
