/** A token of Ruby. */
export type Token = {
  readonly line: number;
  /** Whether white space precedes it. */
  readonly spaced: boolean;
} & (
  | { readonly type: 'newline' }
  /** A string or a symbol with a literal value. */
  | { readonly type: 'text'; readonly value: string }
  /** `name:` or `"name":` before its value. */
  | { readonly type: 'label'; readonly value: string }
  | { readonly type: 'number'; readonly text: string }
  /** An identifier, a constant, a keyword. */
  | { readonly type: 'word'; readonly text: string }
  /** A literal whose value is computed or unsupported. `what` describes it. */
  | { readonly type: 'computed'; readonly what: string }
  | { readonly type: 'mark'; readonly text: string }
);

/** The position from which the Ruby code cannot be analysed with certainty. */
export class RubyFault extends Error {
  override readonly name = 'RubyFault';

  constructor(
    message: string,
    readonly line: number,
  ) {
    super(message);
  }
}

/** Whether a token is one of these marks. */
export function isMark(token: Token | undefined, ...texts: readonly string[]): boolean {
  return token?.type === 'mark' && texts.includes(token.text);
}

/** Whether a token is one of these words. */
export function isWord(token: Token | undefined, ...texts: readonly string[]): boolean {
  return token?.type === 'word' && texts.includes(token.text);
}

/** The closing bracket of each opening one. */
export const CLOSERS: ReadonlyMap<string, string> = new Map([
  ['(', ')'],
  ['[', ']'],
  ['{', '}'],
]);

/** Keywords after which a value begins, as after an operator. */
const BEFORE_VALUE = new Set(
  'and begin case do else elsif ensure if in not or rescue return then unless until when while yield'.split(
    ' ',
  ),
);

/**
 * Whether a value begins after a token (`/` is a regular expression, `if` opens a block), or an operator follows. After a
 * name that may be a method's, only the running program knows: `perhaps`.
 */
export function beforeValue(token: Token | undefined): 'yes' | 'no' | 'perhaps' {
  switch (token?.type) {
    case undefined:
    case 'newline':
    case 'label':
      return 'yes';
    case 'text':
    case 'number':
    case 'computed':
      return 'no';
    case 'mark':
      return [')', ']', '}'].includes(token.text) ? 'no' : 'yes';
    case 'word':
      return BEFORE_VALUE.has(token.text) ? 'yes' : 'perhaps';
  }
}
