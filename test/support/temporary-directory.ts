import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { onTestFinished } from 'vitest';

/** A private directory that is removed when the test that asked for it has finished. */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'gitaly-tls-proxy-test-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}
