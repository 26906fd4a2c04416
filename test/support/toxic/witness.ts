import type { Exchange } from './content.js';

/** What Gitaly's place sees of the connections that are under way. */
export class Witness {
  /** What was wrong, in words, by number; of none if even that is not known. */
  readonly wrongs: { readonly number: number | undefined; readonly how: string }[] = [];
  readonly #exchanges = new Map<number, Exchange>();
  readonly #over = new Set<number>();
  readonly #whole = new Set<number>();
  readonly #short = new Set<number>();

  /** A connection begins. */
  expect(exchange: Exchange): void {
    this.#exchanges.set(exchange.plan.number, exchange);
  }

  /**
   * What passes on the connection of this number. `undefined` if it is over, as its last bytes may come when it has been given
   * up; a number that no connection has is wrong.
   */
  find(number: number): Exchange | undefined {
    const exchange = this.#exchanges.get(number);
    if (!exchange && !this.#over.has(number))
      this.wrong(number, 'an upload with the number of no connection');
    return exchange;
  }

  /** All of its upload has come, equal, and the word that this was all. */
  hadAll(number: number): void {
    this.#whole.add(number);
  }

  /** Its connection ended as if the client were done, before all had come; the framing tells. */
  endedShort(number: number): void {
    this.#short.add(number);
  }

  /** What must never be. */
  wrong(number: number | undefined, how: string): void {
    this.wrongs.push({ number, how });
  }

  /** A connection is over: what was seen of its upload. */
  tell(number: number): 'all' | 'end' | 'error' {
    this.#exchanges.delete(number);
    this.#over.add(number);
    if (this.#whole.delete(number)) return 'all';
    return this.#short.delete(number) ? 'end' : 'error';
  }
}
