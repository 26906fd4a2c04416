/** Formats a date as RFC 3339. Returns `an unreadable date` for an invalid date, as in a malformed certificate. */
export function isoDate(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'an unreadable date' : date.toISOString();
}
