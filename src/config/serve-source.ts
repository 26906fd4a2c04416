/** The flags of `serve` that replace a configuration file. */
export interface ServeFlags {
  /** `--listen` and `--forward`, paired in the order in which they were given. */
  readonly pairs: readonly { readonly listen: string; readonly forward: string }[];
  readonly cert?: string;
  readonly key?: string;
  readonly clientCa?: string;
  readonly clientAuth?: string;
  readonly prometheusListenAddr?: string;
}

/** The source of the configuration of `serve`; a reload reads it again. */
export type ServeSource =
  { readonly kind: 'file'; readonly file: string } | { readonly kind: 'flags'; readonly flags: ServeFlags };
