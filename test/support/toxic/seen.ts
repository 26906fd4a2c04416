/** What an end has seen of the other's bytes. */
export type Seen =
  /** All of them, equal, and the word that this was all. */
  | { readonly what: 'all' }
  /** The connection, or the call, ended with an error. */
  | { readonly what: 'error'; readonly how: string }
  /** The connection ended as if its other end were done, before all bytes had come; the framing tells. */
  | { readonly what: 'end'; readonly how: string }
  /** Bytes that were not sent, or the word that this was all when it was not: what must never be. */
  | { readonly what: 'wrong'; readonly how: string }
  /** It is the one that vanished. */
  | { readonly what: 'vanished' };

/** A client that is under way. */
export interface Attempt {
  readonly seen: Promise<Seen>;
  /** It is gone, and has seen what it has seen. */
  vanish(): void;
}
