import { Nesting } from './blocks.js';
import { beforeValue, isMark, RubyFault, type Token } from './ruby-token.js';

/** One statement; blocks are part of the statement that opens them. */
export interface Statement {
  /** Never empty. Contains the line breaks within the statement. */
  readonly tokens: readonly Token[];
  /** Whether it opens a block: a condition, a loop, a method, `do`. */
  readonly hasBlock: boolean;
}

/**
 * Splits a program into its outermost statements.
 *
 * @throws {RubyFault} if an `end` is missing or superfluous.
 */
export function statementsOf(tokens: readonly Token[]): Statement[] {
  const statements: Statement[] = [];
  let current: Token[] = [];
  let hasBlock = false;
  const nesting = new Nesting();
  const finish = (): void => {
    if (current.length > 0) statements.push({ tokens: current, hasBlock });
    current = [];
    hasBlock = false;
  };
  for (const [index, token] of tokens.entries()) {
    nesting.follow(token);
    if (nesting.blocks > 0) hasBlock = true;
    if (token.type !== 'newline' || !nesting.isFlat) current.push(token);
    else if (!continues(current.at(-1), nextOf(tokens, index))) finish();
  }
  if (!nesting.isFlat) {
    const line = current[0]?.line ?? 1;
    throw new RubyFault('the statement that begins here has no end', line);
  }
  finish();
  return statements;
}

/** Whether a statement continues on the next line: a line ends with an operator or `and`, or the next begins with a dot. */
function continues(last: Token | undefined, next: Token | undefined): boolean {
  return isMark(next, '.', '&.') || (last !== undefined && beforeValue(last) === 'yes');
}

/** The next token that is not a line break. */
function nextOf(tokens: readonly Token[], index: number): Token | undefined {
  let next = index + 1;
  while (tokens[next]?.type === 'newline') next += 1;
  return tokens[next];
}
