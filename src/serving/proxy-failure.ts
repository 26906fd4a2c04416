/** A failed start or reload, with one line per reason. `kind` determines the exit code. */
export class ProxyFailure extends Error {
  readonly kind: 'configuration' | 'system';
  readonly lines: readonly string[];

  constructor(kind: 'configuration' | 'system', lines: readonly string[]) {
    super(lines.join('\n'));
    this.kind = kind;
    this.lines = lines;
  }
}
