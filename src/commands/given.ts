/** A flag as it was written, or a word without dashes. */
export type Argument =
  | { readonly kind: 'flag'; readonly name: string; readonly value: string | undefined }
  | { readonly kind: 'word'; readonly word: string };

/** What was given to a command, in the order it was written. */
export class Given {
  constructor(readonly found: readonly Argument[]) {}

  get words(): readonly string[] {
    return this.found.flatMap((argument) => (argument.kind === 'word' ? [argument.word] : []));
  }

  get flags(): readonly (Argument & { readonly kind: 'flag' })[] {
    return this.found.flatMap((argument) => (argument.kind === 'flag' ? [argument] : []));
  }

  has(name: string): boolean {
    return this.flags.some((flag) => flag.name === name);
  }

  /** The value of a flag that may be given once. */
  value(name: string): string | undefined {
    return this.values(name)[0];
  }

  /** The values of a flag that may be repeated. */
  values(name: string): readonly string[] {
    return this.flags.flatMap((flag) => (flag.name === name && flag.value !== undefined ? [flag.value] : []));
  }
}
