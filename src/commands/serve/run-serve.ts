import { DEFAULT_LOGGING } from '../../config/defaults.js';
import { readConfiguration } from '../../config/load.js';
import type { ServeSource } from '../../config/serve-source.js';
import { runProxy } from './run-proxy.js';

/** Runs the proxy until it is told to stop. Returns the exit code. */
export function serve(source: ServeSource, program: string): Promise<number> {
  return runProxy({
    load: () => readConfiguration(source, process.env),
    program,
    logging: DEFAULT_LOGGING,
  });
}
