/** RFC 3339 of a date; of one that a certificate does not say in a form that can be read, this. */
export function isoDate(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'an unreadable date' : date.toISOString();
}
