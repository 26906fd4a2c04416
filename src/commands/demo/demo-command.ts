import type { CommandEntry } from '../command.js';

export const DEMO: CommandEntry = {
  name: 'demo',
  summary: "run with throwaway certificates and a backend in Gitaly's place",
  description: [
    "Runs with nothing prepared: makes a throwaway authority, certificates and a gRPC backend in Gitaly's place, " +
      'puts a tls:// and a tcp:// listener in front of it, makes a health call and prints what to try. Ctrl-C ends ' +
      'it and removes what it made.',
  ],
  usage: [''],
  flags: [],
  examples: [{ text: 'see it work', line: 'gitaly-tls-proxy demo' }],
  read: () => ({ command: 'demo' }),
};
