import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { onTestFinished } from 'vitest';

import { firstOutput } from './first-output.js';

const SERVE_BACKEND = fileURLToPath(new URL('../../dist/demo/serve-backend.js', import.meta.url));

/** The gRPC backend as a process of its own, which can be killed as Gitaly can. */
export interface BackendProcess {
  /** What to forward to. */
  readonly url: string;
  /** Kills it with SIGKILL. Its sockets are closed when this settles. */
  kill(): Promise<void>;
}

/** Starts it on this port, or on a free one. It is killed when the test ends. */
export async function startBackendProcess(port = 0): Promise<BackendProcess> {
  const child = spawn(process.execPath, [SERVE_BACKEND, '--port', String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
  };
  onTestFinished(kill);
  const output = await firstOutput(child.stdout);
  const bound = /port (\d+)/.exec(output)?.[1];
  if (bound === undefined) throw new Error(`the backend did not print its address: ${output}`);
  return { url: `tcp://127.0.0.1:${bound}`, kill };
}
