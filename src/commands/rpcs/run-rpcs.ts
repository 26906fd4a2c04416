import { readFile } from 'node:fs/promises';

import { fileErrorReason } from '../../config/file-error.js';
import { formatRpcFile } from '../../policy/rpc-file.js';
import { printable } from '../../printable.js';
import type { CommandIo } from '../command-io.js';
import { readDescriptorSet } from './descriptor-set.js';

const COMMAND = 'protoc --include_imports --descriptor_set_out=gitaly.pb -I proto proto/*.proto';

/**
 * `rpcs`: prints the table for `rpcs_path`.
 * @returns the exit code
 */
export async function runRpcs(
  from: string,
  { writeStdout, writeStderr }: Pick<CommandIo, 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  const fail = (reason: string): number => {
    writeStderr(`gitaly-tls-proxy: ${printable(from)}: ${reason}\n`);
    return 1;
  };
  let bytes: Buffer;
  try {
    bytes = await readFile(from);
  } catch (error) {
    return fail(fileErrorReason(error));
  }
  const rpcs = readDescriptorSet(bytes);
  if (typeof rpcs === 'string') return fail(`${rpcs}; write it with: ${COMMAND}`);
  writeStdout(
    formatRpcFile(
      rpcs,
      'RPCs by `gitaly-tls-proxy rpcs`: method, stream type, operation, and the numbers of the fields with the repository or storage.',
    ),
  );
  return 0;
}
