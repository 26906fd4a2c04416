import { manualPage } from './manual-page.js';
import type { CommandEntry } from '../command.js';

/** @param commands - all commands, this one among them. */
export function manualEntry(commands: () => readonly CommandEntry[]): CommandEntry {
  return {
    name: 'man',
    summary: 'print the manual page',
    description: ['Prints the manual page, in the form that man reads.'],
    usage: [''],
    flags: [],
    examples: [
      {
        text: 'in a directory of man, such as /usr/local/share/man/man1',
        line: 'gitaly-tls-proxy man > gitaly-tls-proxy.1',
      },
    ],
    read: () => ({ command: 'print', text: manualPage(commands()) }),
  };
}
