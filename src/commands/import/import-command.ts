import { SIDES, type ImportSide } from './import-plan.js';
import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';

/** Made by packaging/gitaly-tls-proxy.service. */
const SOCKET_DIRECTORY = '/run/gitaly-tls-proxy';

export const CONFIGURATION_IMPORT: CommandEntry = {
  name: 'configuration import',
  summary: 'make a configuration from one of GitLab, with the steps to move to it',
  description: [
    "Reads Gitaly's or Praefect's config.toml, Rails' gitlab.yml or Omnibus' gitlab.rb and prints a configuration with " +
      'which the proxy takes over: what does TLS there becomes a listener, and the addresses of storages become unix ' +
      'sockets that lead to them. Comments in it say what to change where, in which order, so that no clone fails on the way.',
    'Of gitlab.rb literal values are read. What Ruby computes, and all else that is not taken over, is listed in comments ' +
      'and on stderr; tokens are never printed. Exits with 2 if the file gives no configuration.',
    'Without FILE, or with -, it is read from stdin.',
  ],
  usage: ['[FILE] [--only SIDE] [--socket-directory DIR]'],
  words: { label: 'FILE', most: 1, completes: 'file' },
  flags: [
    {
      name: 'only',
      value: { label: SIDES.join('|'), completes: SIDES },
      text: 'of a file that speaks of several servers, as a gitlab.rb that all nodes share, take this one alone',
    },
    {
      name: 'socket-directory',
      value: { label: 'DIR', completes: 'directory' },
      text: `where the sockets for clients are (default: ${SOCKET_DIRECTORY})`,
    },
  ],
  examples: [
    {
      text: 'on a Gitaly node',
      line: 'gitaly-tls-proxy configuration import config.toml > imported.yaml',
    },
    {
      text: 'of a gitlab.rb that all nodes share, what is for the Rails nodes',
      line: 'gitaly-tls-proxy configuration import gitlab.rb --only clients > imported.yaml',
    },
  ],
  read: (given) => {
    const [file] = given.words;
    const only = given.value('only');
    if (only !== undefined && !isSide(only))
      throw new UsageError(`--only takes ${SIDES.join(', ')}, not ${JSON.stringify(only)}`);
    const socketDirectory = given.value('socket-directory') ?? SOCKET_DIRECTORY;
    if (!socketDirectory.startsWith('/'))
      throw new UsageError(`--socket-directory takes a path from the root, such as ${SOCKET_DIRECTORY}`);
    return {
      command: 'configuration import',
      request: {
        file: file === '-' ? undefined : file,
        only,
        socketDirectory: socketDirectory.replace(/(?<=.)\/+$/u, ''),
      },
    };
  },
};

function isSide(text: string): text is ImportSide {
  return SIDES.some((side) => side === text);
}
