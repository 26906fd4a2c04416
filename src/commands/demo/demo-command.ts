import type { CommandEntry } from '../command.js';

export const DEMO: CommandEntry = {
  name: 'demo',
  summary: 'try it with throwaway certificates and a backend in place of Gitaly',
  description: [
    'Needs no preparation. Creates a throwaway CA, certificates and a gRPC backend in place of Gitaly, puts a tls:// ' +
      'and a tcp:// listener in front of it, makes a health call and prints commands to try. Ctrl-C ends the demo and ' +
      'removes its files.',
  ],
  usage: [''],
  flags: [],
  examples: [{ text: 'see it work, without any preparation', line: 'gitaly-tls-proxy demo' }],
  read: () => ({ command: 'demo' }),
};
