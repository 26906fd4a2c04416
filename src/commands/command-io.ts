import type { Environment } from '../config/build-context.js';

/** The exit codes besides 0. `EXIT_USAGE`: the configuration or the command line is invalid. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** The clock, environment variables and streams of a command. */
export interface CommandIo {
  readonly now: Date;
  readonly env: Environment;
  /** Relative paths in a configuration from stdin are relative to it. */
  readonly directory: string;
  readonly readStdin: () => Promise<Buffer>;
  readonly writeStdout: (text: string) => void;
  readonly writeStderr: (text: string) => void;
}
