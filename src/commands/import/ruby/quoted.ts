import type { Source } from './source.js';
import { CLOSERS } from './ruby-token.js';

/** The value of a quoted text, or the reason why only the running program knows it. */
export type Quoted =
  { readonly kind: 'plain'; readonly value: string } | { readonly kind: 'computed'; readonly what: string };

/** Consumes Ruby code up to and including the `}` that ends an interpolation. */
export type SkipCode = (source: Source) => void;

/** The supported escapes in double quotes. The others are rare in paths and addresses. */
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\\', '\\'],
  ['"', '"'],
  ["'", "'"],
  ['#', '#'],
  ['/', '/'],
  ['n', '\n'],
  ['t', '\t'],
  ['s', ' '],
]);

/** Consumes `'…'`, including its opening quote. */
export function takeSingleQuoted(source: Source): Quoted {
  const { line } = source;
  source.take(1);
  let value = '';
  while (source.peek() !== "'") {
    if (source.atEnd) throw source.fault('a string is not closed', line);
    // In single quotes, only these two are escapes.
    if (source.peek() === '\\' && (source.peek(1) === "'" || source.peek(1) === '\\')) source.take(1);
    value += source.take(1);
  }
  source.take(1);
  return { kind: 'plain', value };
}

/** Consumes `"…"`, including its opening quote, or a text with the same rules, such as a command in back quotes. */
export function takeDoubleQuoted(source: Source, skipCode: SkipCode): Quoted {
  const { line } = source;
  const quote = source.take(1);
  let value = '';
  let computed: string | undefined;
  while (source.peek() !== quote) {
    if (source.atEnd) throw source.fault('a string is not closed', line);
    if (source.peek() === '\\') {
      const escape = ESCAPES.get(source.peek(1));
      if (escape === undefined) computed ??= 'a string with an unsupported escape';
      source.take(2);
      value += escape ?? '';
    } else if (isInterpolation(source)) {
      computed = 'a string with an interpolation';
      skipInterpolation(source, skipCode);
    } else {
      value += source.take(1);
    }
  }
  source.take(1);
  return computed === undefined ? { kind: 'plain', value } : { kind: 'computed', what: computed };
}

/**
 * Consumes a text between delimiters of any kind: `%w[…]`, `%q(…)`, `/…/`. The next character is the opening delimiter.
 *
 * @param raw - whether `#{` has no special meaning.
 */
export function skipDelimited(source: Source, raw: boolean, skipCode: SkipCode): void {
  const { line } = source;
  const open = source.take(1);
  const close = open === '<' ? '>' : (CLOSERS.get(open) ?? open);
  for (let depth = 1; depth > 0;) {
    if (source.atEnd) throw source.fault(`a literal that begins with ${open} is not closed`, line);
    if (source.peek() === '\\') source.take(2);
    else if (!raw && isInterpolation(source)) skipInterpolation(source, skipCode);
    else {
      const character = source.take(1);
      if (character === close) depth -= 1;
      else if (character === open) depth += 1;
    }
  }
}

/** `#{…}`, or `#@name` and `#$name`. */
function isInterpolation(source: Source): boolean {
  return source.peek() === '#' && /^[{@$]/u.test(source.peek(1));
}

function skipInterpolation(source: Source, skipCode: SkipCode): void {
  const opening = source.take(2);
  if (opening === '#{') skipCode(source);
}
