import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';

import { MAX_AUDIT_LINE_BYTES } from '../../limits.js';
import { ChainVerifier, type ChainFault } from '../../telemetry/audit/verify-chains.js';
import { describeFileError } from '../../x509/pem-files.js';
import type { CommandIo } from '../command-io.js';

const LINE_END = 0x0a;

/**
 * `audit verify`: reports the first line that was changed, moved or removed.
 * @returns the exit code: 1 if there is one, or a file cannot be read
 */
export async function runAuditVerify(
  { files, hashes }: { readonly files: readonly string[]; readonly hashes: readonly string[] },
  { writeStdout, writeStderr }: Pick<CommandIo, 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  const verifier = new ChainVerifier(hashes);
  let fault: ChainFault | undefined;
  for (const file of files) {
    verifier.beginFile(file);
    try {
      fault = await verifyFile(file, verifier);
    } catch (error) {
      writeStderr(`gitaly-tls-proxy: ${describeFileError(file, error)}\n`);
      return 1;
    }
    if (fault) break;
  }
  fault ??= verifier.end();
  if (fault) {
    writeStdout(`${fault.file}:${fault.line}: ${fault.problem}\n`);
    return 1;
  }
  writeStdout(`${verifier.lines} lines in ${files.length} files are as they were written\n`);
  for (const { chain, sequence, hash, file, line, isClosed } of verifier.ends)
    writeStdout(
      `${file}:${line}: last line of chain ${chain}: sequence ${sequence}, hash ${hash}, ${isClosed ? 'closed' : 'open'}\n`,
    );
  return 0;
}

async function verifyFile(file: string, verifier: ChainVerifier): Promise<ChainFault | undefined> {
  const source = createReadStream(file);
  // An error of the file destroys the decompression, which the loop then throws.
  const content = file.endsWith('.gz') ? pipeline(source, createGunzip(), () => undefined) : source;
  for await (const [line, isWhole] of linesOf(content)) {
    const fault = verifier.line(line, isWhole);
    if (fault) return fault;
  }
  return undefined;
}

/** The lines of a stream, and whether each has a line end. A line that is too long is split. */
async function* linesOf(content: AsyncIterable<Buffer>): AsyncIterable<[line: Buffer, isWhole: boolean]> {
  let rest = Buffer.alloc(0);
  for await (const chunk of content) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(LINE_END); end >= 0; end = bytes.indexOf(LINE_END, start)) {
      yield [bytes.subarray(start, end), true];
      start = end + 1;
    }
    rest = Buffer.from(bytes.subarray(start));
    if (rest.length <= MAX_AUDIT_LINE_BYTES) continue;
    yield [rest, true];
    rest = Buffer.alloc(0);
  }
  if (rest.length > 0) yield [rest, false];
}
