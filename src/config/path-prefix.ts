import { DEFAULTS } from './defaults.js';
import { parsed, refused, type Parsed } from './parsed.js';

/**
 * Parses a path prefix in the form in which it is compared with requests. It must be plain: other forms cannot be
 * distinguished from attempts to bypass it.
 */
export function parsePathPrefix(text: string): Parsed<string> {
  const example = DEFAULTS.http.gatePaths[0];
  if (!text.startsWith('/'))
    return refused(`expected a path prefix that begins with a slash, for example ${example}`);
  if (!/^[\w.~!$&'()*+,:@/-]+$/u.test(text) || /\/\/|\/\.{1,2}(?:\/|$)/u.test(text)) {
    return refused(
      `a path prefix must not contain %, ;, ?, #, \\, spaces, // or dot segments, for example ${example}`,
    );
  }
  return parsed(text);
}
