/** The bytes to forward in place of those of one read. If nothing is changed, they are not copied. */
export class PassedBytes {
  readonly bytes: Buffer;
  /** The bytes from here on are not decided. */
  at = 0;
  /** The bytes from here to `at` are kept, and not in `#parts` yet. */
  #from = 0;
  readonly #parts: Buffer[] = [];

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Bytes that are not decided. */
  get left(): number {
    return this.bytes.length - this.at;
  }

  keep(length: number): void {
    this.at += length;
  }

  drop(length: number): void {
    this.#closePart();
    this.at += length;
    this.#from = this.at;
  }

  insert(parts: readonly Buffer[]): void {
    if (parts.length === 0) return;
    this.#closePart();
    this.#parts.push(...parts);
  }

  /** All that is forwarded: the bytes themselves if nothing was changed. */
  take(): Buffer {
    if (this.#parts.length === 0 && this.#from === 0) return this.bytes;
    this.#closePart();
    return Buffer.concat(this.#parts);
  }

  #closePart(): void {
    if (this.at > this.#from) this.#parts.push(this.bytes.subarray(this.#from, this.at));
    this.#from = this.at;
  }
}
