import { statSync } from 'node:fs';

import type { PathKind } from '../../src/config/build-context.js';

/** What a path leads to, for tests of what a configuration text means. */
export function kindOf(path: string): PathKind {
  try {
    return statSync(path).isDirectory() ? 'directory' : 'file';
  } catch {
    return { reason: 'no such file' };
  }
}
