import { EXIT_FAILED, type CommandIo } from '../command-io.js';
import { describeCreated } from '../gitlab-lines.js';
import { createCertificates, NothingCreated, type CreateRequest } from './create.js';

/**
 * `certificates create`: prints the created files, and the lines of `gitlab.rb` that use them.
 * @returns the exit code: 1 if nothing was created, with one line per reason on stderr
 */
export async function runCertificatesCreate(
  request: CreateRequest,
  io: Pick<CommandIo, 'now' | 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  try {
    io.writeStdout(describeCreated(await createCertificates(request, io.now)));
    return 0;
  } catch (error) {
    if (!(error instanceof NothingCreated)) throw error;
    for (const line of error.lines) io.writeStderr(`gitaly-tls-proxy: ${line}\n`);
    io.writeStderr('gitaly-tls-proxy: nothing was written\n');
    return EXIT_FAILED;
  }
}
