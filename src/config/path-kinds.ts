import { statPath } from '../files/read-file.js';
import type { KindOfPath, PathKind } from './build-context.js';
import { fileErrorReason } from './file-error.js';

/**
 * Runs a check that depends on the types of paths. The first run collects the paths, then all of them are looked up, and the
 * second run uses the results. Therefore no other code waits for a file system.
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
