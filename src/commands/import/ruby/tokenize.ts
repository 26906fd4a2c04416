import { MAX_RUBY_INTERPOLATIONS } from '../../../limits.js';
import { templateHint } from '../template.js';
import { skipDelimited, takeDoubleQuoted, takeSingleQuoted, type Quoted } from './quoted.js';
import { Source } from './source.js';
import { beforeValue, CLOSERS, isMark, type Token } from './ruby-token.js';

/** Longer marks precede their prefixes. */
const MARKS =
  /<=>|===|\.\.\.|\*\*=|&&=|\|\|=|<<=|>>=|=>|==|=~|!=|!~|<=|>=|<<|>>|&&|\|\||\+=|-=|\*=|\/=|%=|\|=|&=|\^=|\*\*|\.\.|::|&\.|->|[(){}[\],;.=<>+\-*/%!?:&|^~]/uy;
const WORD = /[\p{L}_][\p{L}\p{N}_]*(?:[?!](?!=))?/uy;
const NUMBER = /0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?/uy;
const VARIABLE = /@{1,2}[\p{L}_][\p{L}\p{N}_]*|\$(?:[\p{L}_][\p{L}\p{N}_]*|-?[^\s])/uy;
const SYMBOL = /:([\p{L}_][\p{L}\p{N}_]*[?!]?(?:=(?![=~>]))?)/uy;
const OPERATOR_SYMBOL = /:(?:\[\]=?|[+\-*/%<>=!~^&|]+@?)/uy;
const HEREDOC = /<<([~-]?)(["'`]?)([\p{L}_][\p{L}\p{N}_]*)\2/uy;
const PERCENT = /%([qQwWiIrsx]?)(?=[^\p{L}\p{N}\s=])/uy;
const CHARACTER = /\?(?:\\.|[^\s\\])(?![\p{L}\p{N}_])/uy;
/**
 * Marks of a template language at the position of Ruby code: `<%`, `{%` and the start of `{{ .Values.x }}` or `{{ name | filter
 * }}`.
 */
const TEMPLATE = /<%[-=#\s]|\{%-?\s|\{\{-?\s*(?:[.$]|\/\*|[\w.]+\s*(?:\||\}\}|\s[\w."$]))/uy;
const SPACE = /(?:[ \t\r\f\v]|\\\r?\n)+/uy;
const COMMENT = /#[^\n]*/uy;
const DOCUMENTATION = /=begin\b[^]*?(?:\n=end\b[^\n]*|$)/uy;
const END_OF_PROGRAM = /__END__\r?(?:\n|$)/uy;

/**
 * Splits Ruby into tokens. Some texts are ambiguous without running the program: `x /a` may divide, or call x with a
 * regular expression. Ruby decides by white space, and so does this function; it gives up if a wrong decision could
 * move quotes.
 *
 * @throws {RubyFault}
 */
export function tokenize(text: string): Token[] {
  const source = new Source(text);
  const tokens = new Tokenizer(source, 0).run();
  if (!source.atEnd && source.match(END_OF_PROGRAM) === undefined)
    throw source.fault('this } has no opening bracket');
  return tokens;
}

/** A token without its position. Distributes over the union. */
type Distributed<Kind = Token> = Kind extends Token ? Omit<Kind, 'line' | 'spaced'> : never;

/** A heredoc whose content begins on the next line. */
interface Heredoc {
  readonly terminator: RegExp;
  readonly line: number;
}

class Tokenizer {
  readonly #tokens: Token[] = [];
  readonly #heredocs: Heredoc[] = [];

  constructor(
    private readonly source: Source,
    private readonly nesting: number,
  ) {}

  /** Reads up to the end of the text, or to an unmatched `}`, which is not consumed. */
  run(): Token[] {
    const { source } = this;
    const open: string[] = [];
    for (;;) {
      const spaced = this.#skipSpace();
      if (source.atEnd || (source.atLineStart && source.match(END_OF_PROGRAM) !== undefined)) break;
      if (source.peek() === '}' && open.length === 0) break;
      const { line } = source;
      const token: Token = { line, spaced, ...this.#next(spaced) };
      this.#tokens.push(token);
      if (token.type !== 'mark') continue;
      const closer = CLOSERS.get(token.text);
      if (closer !== undefined) open.push(closer);
      else if (isMark(token, ')', ']', '}') && open.pop() !== token.text)
        throw source.fault(`this ${token.text} has no opening bracket`, line);
    }
    const [heredoc] = this.#heredocs;
    if (heredoc !== undefined) throw source.fault('a heredoc is not closed', heredoc.line);
    if (open.length > 0) throw source.fault(`a ${open.at(-1) ?? ''} is missing at the end`);
    return this.#tokens;
  }

  /** Skips white space and comments. Returns whether there were any. */
  #skipSpace(): boolean {
    const { source } = this;
    for (let skipped = false; ; skipped = true) {
      const found =
        (source.atLineStart ? source.match(DOCUMENTATION) : undefined) ??
        source.match(SPACE) ??
        source.match(COMMENT);
      if (found === undefined) return skipped;
      source.take(found[0].length);
    }
  }

  #next(spaced: boolean): Distributed {
    const { source } = this;
    const character = source.peek();
    const { line } = source;
    const template = templateHint(source.match(TEMPLATE)?.[0] ?? '');
    if (template !== undefined) throw source.fault(template);
    switch (character) {
      case '\n':
        source.take(1);
        this.#skipHeredocs();
        return { type: 'newline' };
      case ';':
        source.take(1);
        return { type: 'newline' };
      case "'":
        return this.#quoted(takeSingleQuoted(source));
      case '"':
        return this.#quoted(takeDoubleQuoted(source, this.#skipCode));
      case '`':
        takeDoubleQuoted(source, this.#skipCode);
        return computed('a command');
      case ':':
        return this.#symbol() ?? this.#mark();
      case '<':
        return this.#heredoc(spaced) ?? this.#mark();
      case '%':
        return this.#percent(spaced) ?? this.#mark();
      case '/':
        return this.#regularExpression(spaced) ?? this.#mark();
      case '?':
        return this.#character(spaced) ?? this.#mark();
    }
    const number = source.match(NUMBER);
    if (number !== undefined) return { type: 'number', text: source.take(number[0].length) };
    const word = source.match(WORD) ?? source.match(VARIABLE);
    if (word === undefined) return this.#mark();
    const text = source.take(word[0].length);
    const isLabel = source.peek() === ':' && source.peek(1) !== ':' && !isMark(this.#last, '?');
    if (!isLabel) return { type: 'word', text };
    if (/^[@$]/u.test(text)) throw source.fault('a variable cannot be a key', line);
    source.take(1);
    return { type: 'label', value: text };
  }

  get #last(): Token | undefined {
    return this.#tokens.at(-1);
  }

  readonly #skipCode = (source: Source): void => {
    if (this.nesting === MAX_RUBY_INTERPOLATIONS) throw source.fault('interpolations are nested too deeply');
    const { line } = source;
    new Tokenizer(source, this.nesting + 1).run();
    if (source.peek() !== '}') throw source.fault('an interpolation is not closed', line);
    source.take(1);
  };

  /** A string, or a label if a colon follows at a position where a key is possible. */
  #quoted(quoted: Quoted): Distributed {
    const { source } = this;
    const isLabel =
      source.peek() === ':' &&
      source.peek(1) !== ':' &&
      (this.#last === undefined || this.#last.type === 'newline' || isMark(this.#last, '{', ',', '('));
    if (isLabel) source.take(1);
    if (quoted.kind === 'computed') return computed(quoted.what);
    return { type: isLabel ? 'label' : 'text', value: quoted.value };
  }

  #symbol(): Distributed | undefined {
    const { source } = this;
    if (source.peek(1) === "'" || source.peek(1) === '"') {
      source.take(1);
      const quoted =
        source.peek() === "'" ? takeSingleQuoted(source) : takeDoubleQuoted(source, this.#skipCode);
      return quoted.kind === 'plain' ? { type: 'text', value: quoted.value } : computed(quoted.what);
    }
    const symbol = source.match(SYMBOL);
    if (symbol !== undefined) {
      source.take(symbol[0].length);
      return { type: 'text', value: symbol[1] ?? '' };
    }
    const operator = beforeValue(this.#last) === 'yes' ? source.match(OPERATOR_SYMBOL) : undefined;
    if (operator === undefined || source.peek(1) === ':') return undefined;
    source.take(operator[0].length);
    return computed('the name of an operator');
  }

  #heredoc(spaced: boolean): Distributed | undefined {
    const { source } = this;
    const found = source.match(HEREDOC);
    const position = beforeValue(this.#last);
    if (found === undefined || position === 'no' || (position === 'perhaps' && !spaced)) return undefined;
    const [whole, indented = '', , name = ''] = found;
    const terminator = new RegExp(`${indented === '' ? '' : '[ \\t]*'}${name}\\r?(?:\\n|$)`, 'uy');
    // `list <<NAME` appends a constant, unless there is a line that ends a heredoc.
    const ends = new RegExp(terminator.source.replace(/^/u, '^'), 'um');
    if (position === 'perhaps' && !ends.test(source.rest().below)) return undefined;
    if (this.nesting > 0) throw source.fault('heredocs in interpolations are not supported');
    this.#heredocs.push({ terminator, line: source.line });
    source.take(whole.length);
    return computed('a heredoc');
  }

  /** Skips the content of the heredocs that begin in the line that has ended. */
  #skipHeredocs(): void {
    const { source } = this;
    for (let heredoc = this.#heredocs[0]; heredoc !== undefined; heredoc = this.#heredocs[0]) {
      for (let end = source.match(heredoc.terminator); ; end = source.match(heredoc.terminator)) {
        if (end !== undefined) {
          source.take(end[0].length);
          break;
        }
        if (source.atEnd) throw source.fault('a heredoc is not closed', heredoc.line);
        source.take(source.rest().line.length + 1);
      }
      this.#heredocs.shift();
    }
  }

  #percent(spaced: boolean): Distributed | undefined {
    const { source } = this;
    const found = source.match(PERCENT);
    if (found === undefined || !this.#beginsValue(spaced, found[0].length)) return undefined;
    const kind = found[1] ?? '';
    source.take(found[0].length);
    skipDelimited(source, ['q', 'w', 'i', 's'].includes(kind), this.#skipCode);
    return computed(`a literal with %${kind}`);
  }

  #regularExpression(spaced: boolean): Distributed | undefined {
    if (!this.#beginsValue(spaced, 1)) return undefined;
    skipDelimited(this.source, false, this.#skipCode);
    const flags = this.source.match(/[a-z]+/uy);
    if (flags !== undefined) this.source.take(flags[0].length);
    return computed('a regular expression');
  }

  /** `?a`, which is a string. `x ?"a" : "b"` is not one, but `puts ?"` is: such a text is ambiguous. */
  #character(spaced: boolean): Distributed | undefined {
    const { source } = this;
    const position = beforeValue(this.#last);
    const found = position === 'no' ? undefined : source.match(CHARACTER);
    if (found === undefined) return undefined;
    if (position === 'perhaps') {
      if (spaced && /^\?["'`/%#]/u.test(found[0]))
        throw source.fault('this ? may begin a character literal or a conditional expression');
      return undefined;
    }
    source.take(found[0].length);
    return computed('a character');
  }

  /** Whether a value begins here. After a possible method name it does if white space precedes but does not follow. */
  #beginsValue(spaced: boolean, length: number): boolean {
    const position = beforeValue(this.#last);
    return position === 'yes' || (position === 'perhaps' && spaced && !/\s/u.test(this.source.peek(length)));
  }

  #mark(): Distributed {
    const found = this.source.match(MARKS);
    if (found === undefined) throw this.source.fault(`${nameOf(this.source.peek())} is not valid here`);
    return { type: 'mark', text: this.source.take(found[0].length) };
  }
}

/** Describes a character that may be invisible or a part of a secret: by its number, if it is not ASCII. */
function nameOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code > 0x7f
    ? `the character U+${code.toString(16).toUpperCase().padStart(4, '0')}`
    : 'this character';
}

function computed(what: string): Distributed {
  return { type: 'computed', what };
}
