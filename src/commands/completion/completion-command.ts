import { COMPLETIONS, isShell } from './write-completion.js';
import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';

const SHELLS = Object.keys(COMPLETIONS);

/** @param commands - all commands, including this one. */
export function completionEntry(commands: () => readonly CommandEntry[]): CommandEntry {
  return {
    name: 'completion',
    summary: 'print a shell completion script',
    description: [
      'Prints the script with which a shell completes the commands, flags and files of gitaly-tls-proxy.',
    ],
    usage: [SHELLS.join('|')],
    words: { label: 'SHELL', most: 1, completes: SHELLS },
    flags: [],
    examples: [
      {
        text: 'bash loads it from ~/.local/share/bash-completion/completions',
        line: 'gitaly-tls-proxy completion bash > gitaly-tls-proxy',
      },
      {
        text: 'zsh loads it from any directory in $fpath',
        line: 'gitaly-tls-proxy completion zsh > _gitaly-tls-proxy',
      },
      {
        text: 'fish loads it from ~/.config/fish/completions',
        line: 'gitaly-tls-proxy completion fish > gitaly-tls-proxy.fish',
      },
    ],
    read: ({ words: [shell] }) => {
      if (shell === undefined) throw new UsageError(`completion needs a shell: ${SHELLS.join(', ')}`);
      if (!isShell(shell))
        throw new UsageError(
          `unknown shell ${JSON.stringify(shell)}; completion supports ${SHELLS.join(', ')}`,
        );
      return { command: 'print', text: COMPLETIONS[shell](commands()) };
    },
  };
}
