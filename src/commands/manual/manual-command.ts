import { type CommandEntry, type CommandFlag, COMMON_FLAGS } from '../command.js';
import { readVersion } from '../../version.js';
import { EXIT_CODES, flagTitle, PURPOSE } from '../help.js';

/** @param commands - all commands, including this one. */
export function manualEntry(commands: () => readonly CommandEntry[]): CommandEntry {
  return {
    name: 'man',
    summary: 'print the manual page',
    description: ['Prints the manual page in the format of man(7).'],
    usage: [''],
    flags: [],
    examples: [
      {
        text: 'man reads it from /usr/local/share/man/man1',
        line: 'gitaly-tls-proxy man > gitaly-tls-proxy.1',
      },
    ],
    read: () => ({ command: 'print', text: manualPage(commands()) }),
  };
}

/** The manual page of all commands, in the macros of man(7). */
export function manualPage(commands: readonly CommandEntry[]): string {
  return [
    `.TH GITALY\\-TLS\\-PROXY 1 "" "gitaly\\-tls\\-proxy ${escape(readVersion())}"`,
    '.SH NAME',
    `gitaly\\-tls\\-proxy \\- ${escape(PURPOSE.replace(/^gitaly-tls-proxy /u, '').replace(/\.$/u, ''))}`,
    '.SH SYNOPSIS',
    ...commands.flatMap(({ name, usage }) => usage.flatMap((each) => synopsis(name, each))),
    '.SH COMMANDS',
    ...commands.flatMap(describe),
    '.SH FLAGS OF EVERY COMMAND',
    ...COMMON_FLAGS.flatMap(describeFlag),
    '.SH EXIT STATUS',
    escape(EXIT_CODES),
    '',
  ].join('\n');
}

function synopsis(name: string, usage: string): string[] {
  return [`.B gitaly\\-tls\\-proxy ${escape(name)}`, ...(usage === '' ? [] : [escape(usage)]), '.br'];
}

function describe({ name, description, flags, examples }: CommandEntry): string[] {
  return [
    `.SS ${escape(name)}`,
    ...description.flatMap((paragraph, index) => [...(index === 0 ? [] : ['.PP']), escape(paragraph)]),
    ...flags.flatMap(describeFlag),
    ...examples.flatMap(({ text, line }) => [
      '.PP',
      `${escape(capitalized(text))}:`,
      '.PP',
      '.in +4n',
      '.EX',
      escape(line),
      '.EE',
      '.in',
    ]),
  ];
}

function describeFlag(flag: CommandFlag): string[] {
  return ['.TP', `.B ${escape(flagTitle(flag))}`, escape(flag.text)];
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** In roff, a backslash starts an escape, a plain dash is a hyphen, and a leading dot or apostrophe starts a macro. */
function escape(text: string): string {
  return text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replace(/^[.']/u, String.raw`\&$&`);
}
