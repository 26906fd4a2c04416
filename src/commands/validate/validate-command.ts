import type { CommandEntry } from '../command.js';

export const CONFIGURATION_VALIDATE: CommandEntry = {
  name: 'configuration validate',
  summary: 'check a configuration file and the certificates it names',
  description: [
    'Checks a configuration file and the certificate files that it names. If all are valid, it prints nothing and ' +
      'exits with 0. Otherwise it prints {"errors":[{"key":[...],"message":...,"line":...}]}, the format of gitaly ' +
      'configuration validate, and exits with 2. Warnings are printed to stderr and do not change the exit code.',
    'Without FILE, or with -, the configuration is read from stdin, and relative paths are relative to the working ' +
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
