/** The flags of `serve` that stand for a file. */
export interface ServeFlags {
  /** `--listen` and `--forward`, paired in the order they were written. */
  readonly pairs: readonly { readonly listen: string; readonly forward: string }[];
  readonly cert?: string;
  readonly key?: string;
  readonly clientCa?: string;
  readonly clientAuth?: string;
  readonly prometheusListenAddr?: string;
}

/** Where `serve` has its configuration from; a reload reads it again. */
export type ServeSource =
  { readonly kind: 'file'; readonly file: string } | { readonly kind: 'flags'; readonly flags: ServeFlags };
