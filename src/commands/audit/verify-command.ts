import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';

const MAX_FILES = 10_000;

export const AUDIT_VERIFY: CommandEntry = {
  name: 'audit verify',
  summary: 'find the first audit line that was changed, moved or removed',
  description: [
    'Checks the hashes that link the lines of an audit log (audit_log_path). Prints the number of lines and the last line ' +
      'of each chain, and exits with 0; or prints the first line that was changed, moved or removed, and exits with 1.',
    'Give rotated files from the oldest to the newest. A name that ends in .gz is decompressed. The first file may continue ' +
      'an older one that is not given.',
    'Lines that were cut off at the end of the last file leave no trace in it. The log of the proxy has hashes of last ' +
      'lines (event audit_log_head): with --hash, a line with that hash must exist.',
  ],
  usage: ['FILE... [--hash HASH...]'],
  words: { label: 'FILE', most: MAX_FILES, completes: 'file' },
  flags: [
    {
      name: 'hash',
      value: { label: 'HASH', completes: 'nothing' },
      repeatable: true,
      takesMore: false,
      text: 'a hash from the log of the proxy; one of the lines must have it',
    },
  ],
  examples: [
    { text: 'one file', line: 'gitaly-tls-proxy audit verify audit.log' },
    { text: 'with rotated files', line: 'gitaly-tls-proxy audit verify audit.log.1 audit.log' },
  ],
  read: (given) => {
    if (given.words.length === 0)
      throw new UsageError('audit verify needs a file: audit verify audit.log.1 audit.log');
    const hashes = given.values('hash');
    const invalid = hashes.find((hash) => !/^[\da-f]{64}$/u.test(hash));
    if (invalid !== undefined)
      throw new UsageError(`--hash: expected 64 hexadecimal digits, not ${JSON.stringify(invalid)}`);
    return { command: 'audit verify', files: given.words, hashes };
  },
};
