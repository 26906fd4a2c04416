import { MAX_RUBY_DEPTH } from '../../../limits.js';
import { scalar, unread, type Setting } from '../setting.js';
import { Nesting } from './blocks.js';
import { isMark, isWord, RubyFault, type Token } from './ruby-token.js';

const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ['true', true],
  ['false', false],
  ['nil', null],
]);

/** A value, and the index of the token after it. */
interface Read<T> {
  readonly value: T;
  readonly next: number;
}

/**
 * Reads tokens that are one value: a string, a symbol, a number, `true`, `false`, `nil`, or an array or a hash of these.
 * Any other expression, also within an array or a hash, becomes an unread setting: its value is computed by Ruby.
 *
 * @throws {RubyFault} if arrays and hashes are nested too deeply.
 */
export function readLiteral(tokens: readonly Token[]): Setting {
  return new LiteralReader(tokens).whole();
}

/**
 * Reads the arguments of a method, with or without parentheses: a hash, with or without braces.
 *
 * @throws {RubyFault} as `readLiteral`.
 */
export function readArguments(tokens: readonly Token[]): Setting {
  const inner = isMark(tokens[0], '(') && isMark(tokens.at(-1), ')') ? tokens.slice(1, -1) : tokens;
  const first = inner.find(({ type }) => type !== 'newline');
  const reader = new LiteralReader(inner);
  return first === undefined || isMark(first, '{', '[') ? reader.whole() : reader.pairs();
}

class LiteralReader {
  constructor(private readonly tokens: readonly Token[]) {}

  whole(): Setting {
    const { value, next } = this.#value(this.#skipNewlines(0), 0);
    const stray = this.tokens[this.#skipNewlines(next)];
    return stray === undefined ? value : unread(reasonOf(this.tokens), this.#lineAt(0));
  }

  /** A hash without its braces, to the end. */
  pairs(): Setting {
    return this.#entries(0, this.#lineAt(0), undefined, 0).value;
  }

  #value(index: number, depth: number): Read<Setting> {
    if (depth > MAX_RUBY_DEPTH)
      throw new RubyFault('hashes and arrays are nested too deeply', this.#lineAt(index));
    const literal = this.#literal(index, depth);
    if (literal !== undefined && this.#isEnd(literal.next)) return literal;
    const end = this.#skipExpression(index);
    const reason = reasonOf(this.tokens.slice(index, end));
    return { value: unread(reason, this.#lineAt(index)), next: end };
  }

  #literal(index: number, depth: number): Read<Setting> | undefined {
    const token = this.tokens[index];
    const next = index + 1;
    switch (token?.type) {
      case 'text':
        return { value: scalar(token.value, token.line), next };
      case 'number':
        // 0644 is octal. No needed setting is an octal number.
        if (/^0[\d_]/u.test(token.text)) return undefined;
        return { value: scalar(numberOf(token.text), token.line), next };
      case 'word': {
        const value = WORDS.get(token.text);
        return value === undefined ? undefined : { value: scalar(value, token.line), next };
      }
      case 'mark': {
        if (token.text === '{') return this.#entries(next, token.line, '}', depth);
        if (token.text === '[') return this.#items(next, token.line, depth);
        const number = this.tokens[next];
        if (token.text !== '-' || number?.type !== 'number' || number.spaced) return undefined;
        return { value: scalar(-numberOf(number.text), token.line), next: next + 1 };
      }
      default:
        return undefined;
    }
  }

  #items(index: number, line: number, depth: number): Read<Setting> {
    const items: Setting[] = [];
    let at = this.#skipNewlines(index);
    while (!isMark(this.tokens[at], ']')) {
      const item = this.#value(at, depth + 1);
      items.push(item.value);
      at = this.#skipNewlines(item.next);
      if (isMark(this.tokens[at], ',')) at = this.#skipNewlines(at + 1);
      else if (!isMark(this.tokens[at], ']')) return this.#giveUp(index, line, ']');
    }
    return { value: { kind: 'list', items, line }, next: at + 1 };
  }

  /** @param closer - `undefined` if the hash ends with the tokens. */
  #entries(index: number, line: number, closer: '}' | undefined, depth: number): Read<Setting> {
    const entries = new Map<string, Setting>();
    const isOver = (at: number): boolean =>
      closer === undefined ? at >= this.tokens.length : isMark(this.tokens[at], closer);
    let at = this.#skipNewlines(index);
    while (!isOver(at)) {
      const key = this.#key(at);
      // A computed key or a merged hash may set any entry.
      if (key === undefined) return this.#giveUp(index, line, closer);
      const entry = this.#value(key.next, depth + 1);
      entries.set(key.value, entry.value);
      at = this.#skipNewlines(entry.next);
      if (isMark(this.tokens[at], ',')) at = this.#skipNewlines(at + 1);
      else if (!isOver(at)) return this.#giveUp(index, line, closer);
    }
    return { value: { kind: 'map', entries, line }, next: at + 1 };
  }

  /** `key: `, `'key' =>`, `:key =>`. Omnibus treats strings and symbols alike. */
  #key(index: number): Read<string> | undefined {
    const token = this.tokens[index];
    if (token?.type === 'label') return { value: token.value, next: this.#skipNewlines(index + 1) };
    if (token?.type !== 'text' || !isMark(this.tokens[index + 1], '=>')) return undefined;
    return { value: token.value, next: this.#skipNewlines(index + 2) };
  }

  /** Marks a whole hash or array as unread, because one of its parts may set any entry. */
  #giveUp(index: number, line: number, closer: '}' | ']' | undefined): Read<Setting> {
    let at = index;
    for (let depth = 0; at < this.tokens.length; at += 1) {
      const token = this.tokens[at];
      if (depth === 0 && closer !== undefined && isMark(token, closer)) break;
      if (isMark(token, '(', '[', '{')) depth += 1;
      else if (isMark(token, ')', ']', '}')) depth -= 1;
    }
    return { value: unread(reasonOf(this.tokens.slice(index, at)), line), next: at + 1 };
  }

  /** The index after an expression: that of the comma or closing bracket behind it. */
  #skipExpression(index: number): number {
    const nesting = new Nesting();
    let at = index;
    for (; at < this.tokens.length; at += 1) {
      const token = this.tokens[at];
      if (token === undefined) break;
      if (nesting.isFlat && isMark(token, ',', ')', ']', '}')) break;
      nesting.follow(token);
    }
    return at;
  }

  /** Whether a value that ends before this token is complete. */
  #isEnd(index: number): boolean {
    const token = this.tokens[this.#skipNewlines(index)];
    return token === undefined || isMark(token, ',', ')', ']', '}');
  }

  #skipNewlines(index: number): number {
    let at = index;
    while (this.tokens[at]?.type === 'newline') at += 1;
    return at;
  }

  #lineAt(index: number): number {
    return this.tokens[index]?.line ?? this.tokens.at(-1)?.line ?? 1;
  }
}

/** `1_000`, `0x1f`. */
function numberOf(text: string): number {
  return Number(text.replaceAll('_', ''));
}

/** The reason why tokens are not a literal. It contains no text of the file, because any text may be secret. */
function reasonOf(tokens: readonly Token[]): string {
  const computed = tokens.find((token) => token.type === 'computed');
  if (computed?.type === 'computed') return `it is computed: ${computed.what}`;
  if (tokens.some((token) => isWord(token, 'ENV'))) return 'it is computed: from the environment';
  if (tokens.some((token) => isWord(token, 'File', 'IO'))) return 'it is computed: from another file';
  if (tokens.some((token) => isMark(token, '**'))) return 'it is computed: another hash is merged into it';
  return 'it is computed: a Ruby expression';
}
