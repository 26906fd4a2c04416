/** The permissions of a file as `chmod` takes them: `0600`. */
export function modeText(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
