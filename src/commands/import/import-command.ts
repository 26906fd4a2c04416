import { COMPONENTS, type ImportComponent } from './import-plan.js';
import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';

/** Created by packaging/gitaly-tls-proxy.service. */
const SOCKET_DIRECTORY = '/run/gitaly-tls-proxy';

export const CONFIGURATION_IMPORT: CommandEntry = {
  name: 'configuration import',
  summary: "create a configuration from GitLab's, with the steps to migrate",
  description: [
    "Reads Gitaly's or Praefect's config.toml, Rails' gitlab.yml or Omnibus' gitlab.rb, and prints a configuration of " +
      'the proxy: the TLS address of a server becomes a listener, and the addresses of storages become unix sockets that ' +
      'lead to them. Its comments list the steps of the migration, in an order in which no clone fails.',
    'In gitlab.rb, only literal values are read. Settings that the proxy needs but cannot import, such as values that Ruby ' +
      'computes, are listed in comments and on stderr. Tokens are never printed. Exits with 2 if the file yields no ' +
      'configuration.',
    'Without FILE, or with -, the file is read from stdin.',
  ],
  usage: [`[FILE] [--only ${COMPONENTS.join('|')}] [--socket-directory DIR]`],
  words: { label: 'FILE', most: 1, completes: 'file' },
  flags: [
    {
      name: 'only',
      value: { label: COMPONENTS.join('|'), completes: COMPONENTS },
      text: 'import only this component of a file that configures several, such as a gitlab.rb that all nodes share',
    },
    {
      name: 'socket-directory',
      value: { label: 'DIR', completes: 'directory' },
      text: `the directory of the sockets for clients (default: ${SOCKET_DIRECTORY})`,
    },
  ],
  examples: [
    {
      text: 'on a Gitaly node',
      line: 'gitaly-tls-proxy configuration import config.toml > imported.yaml',
    },
    {
      text: 'for the Rails nodes, from a gitlab.rb that all nodes share',
      line: 'gitaly-tls-proxy configuration import gitlab.rb --only clients > imported.yaml',
    },
  ],
  read: (given) => {
    const [file] = given.words;
    const only = given.value('only');
    if (only !== undefined && !isComponent(only))
      throw new UsageError(`--only must be one of ${COMPONENTS.join(', ')}, not ${JSON.stringify(only)}`);
    const socketDirectory = given.value('socket-directory') ?? SOCKET_DIRECTORY;
    if (!socketDirectory.startsWith('/'))
      throw new UsageError(`--socket-directory must be an absolute path, such as ${SOCKET_DIRECTORY}`);
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

function isComponent(text: string): text is ImportComponent {
  return COMPONENTS.some((component) => component === text);
}
