import type { CommandEntry } from '../command.js';

export const CONFIGURATION_VALIDATE: CommandEntry = {
  name: 'configuration validate',
  summary: 'check a configuration file and the certificates it names',
  description: [
    'Checks a configuration file and the certificate files that it names, as gitaly does with its own: prints ' +
      'nothing and exits with 0 when all is well; else prints {"errors":[{"key":[...],"message":...,"line":...}]} ' +
      'and exits with 2. Warnings go to stderr and change nothing.',
    'Without FILE, or with -, the configuration is read from stdin and relative paths are relative to the working ' +
      'directory.',
  ],
  usage: ['[FILE]'],
  words: { label: 'FILE', most: 1, completes: 'file' },
  flags: [],
  examples: [
    { text: 'before a reload', line: 'gitaly-tls-proxy configuration validate gitaly-tls-proxy.yaml' },
  ],
  read: ({ words: [file] }) => ({
    command: 'configuration validate',
    file: file === '-' ? undefined : file,
  }),
};
