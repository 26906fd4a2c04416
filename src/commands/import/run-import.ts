import { EXIT_USAGE, type CommandIo } from '../command-io.js';
import { fileErrorReason } from '../../config/file-error.js';
import { readContent } from '../../files/read-file.js';
import { formatProblem } from '../../config/problem.js';
import { ImportFault } from './found.js';
import { importConfiguration, type Imported } from './import-configuration.js';
import type { ImportComponent } from './import-plan.js';

/** The file name in messages about a file from stdin. */
const STDIN_NAME = '<stdin>';

/** The arguments of `configuration import`. */
export interface ImportRequest {
  /** `undefined` for stdin. */
  readonly file: string | undefined;
  readonly only: ImportComponent | undefined;
  readonly socketDirectory: string;
}

/**
 * `configuration import [FILE]`: prints a configuration to stdout, and a warning to stderr for each setting that was not
 * imported or needs attention.
 *
 * @returns the exit code: 0, or 2 if the file yields no configuration.
 */
export async function runImport(
  { file, ...options }: ImportRequest,
  io: Pick<CommandIo, 'readStdin' | 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  const name = file ?? STDIN_NAME;
  const print = (
    severity: 'warning' | 'error',
    key: string,
    message: string,
    line: number | undefined,
  ): void => {
    const problem = {
      severity,
      key: key === '' ? [] : [key],
      message,
      ...(line === undefined ? {} : { line }),
    };
    io.writeStderr(`${formatProblem(problem, { file: name, locate: () => undefined })}\n`);
  };
  let text: string;
  try {
    text = decode(file === undefined ? await io.readStdin() : (await readContent(file)).bytes);
  } catch (error) {
    print('error', '', `the file cannot be read: ${fileErrorReason(error)}`, undefined);
    return EXIT_USAGE;
  }
  let imported: Imported;
  try {
    imported = importConfiguration(text, { name, ...options });
  } catch (error) {
    if (!(error instanceof ImportFault)) throw error;
    print('error', '', error.message, error.line);
    return EXIT_USAGE;
  }
  for (const { key, reason, line } of imported.unread) print('warning', key, `not imported: ${reason}`, line);
  for (const { key, reason, line } of imported.warnings) print('warning', key, `imported: ${reason}`, line);
  io.writeStdout(imported.text);
  return 0;
}

/** Decodes text: UTF-8, unless a byte order mark indicates UTF-16, which editors and shells of Windows write. */
function decode(bytes: Buffer): string {
  const mark = bytes.subarray(0, 2).toString('hex');
  const encoding = mark === 'fffe' ? 'utf-16le' : mark === 'feff' ? 'utf-16be' : 'utf-8';
  return new TextDecoder(encoding).decode(bytes);
}
