import type { NetworkAddress } from '../../../config/model.js';

/** Where certificates are looked for: a file or a directory of them, or a server that presents them. */
export type Place =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'address'; readonly address: NetworkAddress };
