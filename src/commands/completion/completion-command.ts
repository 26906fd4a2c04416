import { COMPLETIONS, isShell } from './write-completion.js';
import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';

const SHELLS = Object.keys(COMPLETIONS);

/** @param commands - all commands, this one among them. */
export function completionEntry(commands: () => readonly CommandEntry[]): CommandEntry {
  return {
    name: 'completion',
    summary: 'print the completion script of a shell',
    description: ['Prints what makes a shell complete the commands, flags and files of gitaly-tls-proxy.'],
    usage: [SHELLS.join('|')],
    words: { label: 'SHELL', most: 1, completes: SHELLS },
    flags: [],
    examples: [
      {
        text: 'bash: in ~/.local/share/bash-completion/completions, bash loads it by itself',
        line: 'gitaly-tls-proxy completion bash > gitaly-tls-proxy',
      },
      {
        text: 'zsh: in a directory of $fpath',
        line: 'gitaly-tls-proxy completion zsh > _gitaly-tls-proxy',
      },
      {
        text: 'fish: in ~/.config/fish/completions, fish loads it by itself',
        line: 'gitaly-tls-proxy completion fish > gitaly-tls-proxy.fish',
      },
    ],
    read: ({ words: [shell] }) => {
      if (shell === undefined) throw new UsageError(`completion needs a shell: ${SHELLS.join(', ')}`);
      if (!isShell(shell))
        throw new UsageError(`no completion for ${JSON.stringify(shell)}, only for ${SHELLS.join(', ')}`);
      return { command: 'print', text: COMPLETIONS[shell](commands()) };
    },
  };
}
