import type { Environment } from '../config/build-context.js';

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
