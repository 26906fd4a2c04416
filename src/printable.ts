/**
 * Characters that a terminal interprets or that mislead a reader: C0 and C1 controls and DEL (Cc), format characters such as
 * the bidirectional controls and zero-width characters (Cf), line and paragraph separators (Zl, Zp), lone surrogates (Cs),
 * spaces other than U+0020 (the rest of Zs), and characters that show as nothing (Default_Ignorable_Code_Point, and the blank
 * Braille pattern). A character class of a regular expression.
 */
export const UNPRINTABLE_CLASS =
  '[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Cs}\\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000' +
  '\\p{Default_Ignorable_Code_Point}\\u2800]';

const UNPRINTABLE = new RegExp(UNPRINTABLE_CLASS, 'gu');

const ANY_UNPRINTABLE = new RegExp(UNPRINTABLE_CLASS, 'u');

/** Whether a text can be printed unchanged on one line. */
export function isPrintable(text: string): boolean {
  return !ANY_UNPRINTABLE.test(text);
}

/** Escapes an external text for one line; characters that must not reach a terminal become `\u001b`. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, unicodeEscape);
}

/** Escapes a text that becomes a part of JSON: JSON itself escapes C0 controls, and line breaks of a stack trace remain. */
export function printableText(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (character < ' ' ? character : unicodeEscape(character)));
}

/** Text of several lines for a terminal: only the line breaks remain. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE, (character) =>
    character === '\n' ? character : unicodeEscape(character),
  );
}

/** Formats a value as JSON that can be printed: JSON itself does not escape DEL, C1 controls or non-ASCII characters. */
export function printableJson(value: unknown, indent = 0): string {
  // The only unprintable characters outside of strings are the line breaks of the indentation.
  return printableLines(JSON.stringify(value, null, indent));
}

/** Cuts an external text; `…` marks that it was longer. */
export function cut(text: string, maxLength: number): string {
  return text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
}

/** One escape per UTF-16 unit, as in JSON. */
function unicodeEscape(character: string): string {
  return Array.from(
    { length: character.length },
    (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('');
}
