/** Formats a date by RFC 3339; an invalid date, as of a malformed certificate, gives `an unreadable date`. */
export function isoDate(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'an unreadable date' : date.toISOString();
}
