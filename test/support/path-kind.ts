import { readFileSync, statSync } from 'node:fs';

import type { PathKind, TextOfFile } from '../../src/config/build-context.js';

/** What a path leads to, for tests of what a configuration text means. */
export function kindOf(path: string): PathKind {
  try {
    return statSync(path).isDirectory() ? 'directory' : 'file';
  } catch {
    return { reason: 'no such file' };
  }
}

/** The text of a file that a configuration names. */
export function textOf(path: string): ReturnType<TextOfFile> {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return { reason: 'no such file' };
  }
}
