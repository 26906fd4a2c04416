import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { temporaryDirectory } from './temporary-directory.js';

/** Measures the memory of a program by the bytes that are live, which neither the allocator nor the machine's load changes. */
export interface LiveBytes {
  /** Options for the start of the program, as one process. */
  readonly start: { readonly nodeArgs: readonly string[]; readonly env: Readonly<Record<string, string>> };
  /** The bytes that are live after a garbage collection, of V8's heap and of buffers. */
  measure(): Promise<number>;
}

/** Prepares a measurement. */
export async function liveBytes(): Promise<LiveBytes> {
  const path = join(await temporaryDirectory(), 'live-bytes');
  const report = fileURLToPath(new URL('report-live-bytes.mjs', import.meta.url));
  return {
    start: { nodeArgs: ['--expose-gc', '--import', report], env: { LIVE_BYTES_SOCKET: path } },
    measure: async () => Number(await text(connect(path))),
  };
}
