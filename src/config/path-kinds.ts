import { statPath } from '../files/read-file.js';
import type { KindOfPath, PathKind } from './build-context.js';
import { fileErrorReason } from './file-error.js';

/**
 * Runs a judgement that depends on what paths lead to. The first run finds the paths; then all are looked at; the second run
 * has the answers. So nothing waits for a file system but this.
 */
export async function withKinds<T>(judge: (kindOf: KindOfPath) => T): Promise<T> {
  const asked = new Set<string>();
  const first = judge((path) => {
    asked.add(path);
    return 'file';
  });
  if (asked.size === 0) return first;
  const kinds = new Map<string, PathKind>();
  await Promise.all([...asked].map(async (path) => kinds.set(path, await kindOf(path))));
  return judge((path) => kinds.get(path) ?? 'file');
}

async function kindOf(path: string): Promise<PathKind> {
  try {
    return (await statPath(path)).isDirectory() ? 'directory' : 'file';
  } catch (error) {
    return { reason: fileErrorReason(error) };
  }
}
