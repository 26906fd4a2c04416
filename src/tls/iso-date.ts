/** RFC 3339 of the dates that Node prints as OpenSSL does (`Nov 23 07:00:00 2026 GMT`). */
export function isoDate(text: string): string {
  return new Date(text).toISOString();
}
