import { DEFAULTS } from './defaults.js';
import { parsed, refused, type Parsed } from './parsed.js';

/**
 * Reads a beginning of paths as it is compared with requests: plain, as nothing else can be told from what gets around
 * it.
 */
export function parsePathPrefix(text: string): Parsed<string> {
  const example = DEFAULTS.http.gatePaths[0];
  if (!text.startsWith('/'))
    return refused(`expected the beginning of a path with its slash, for example ${example}`);
  if (!/^[\w.~!$&'()*+,:@/-]+$/u.test(text) || /\/\/|\/\.{1,2}(?:\/|$)/u.test(text)) {
    return refused(
      `a path is written plain, without %, ;, ?, #, \\, spaces, // and dots as a segment, for example ${example}`,
    );
  }
  return parsed(text);
}
