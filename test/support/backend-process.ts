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
  /** Kills it, without a chance to say anything; when it is gone, so are its sockets. */
  kill(): Promise<void>;
}

/** Starts it on a port, any that is free unless told otherwise; it is killed with the test. */
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
  if (bound === undefined) throw new Error(`the backend did not say where it listens: ${output}`);
  return { url: `tcp://127.0.0.1:${bound}`, kill };
}
