import { statSync } from 'node:fs';

import type { PathKind } from '../../src/config/build-context.js';

/** The kind of file at a path, for tests that only read the text of a configuration. */
export function kindOf(path: string): PathKind {
  try {
    return statSync(path).isDirectory() ? 'directory' : 'file';
  } catch {
    return { reason: 'no such file' };
  }
}
