import { type CommandEntry, type CommandFlag, COMMON_FLAGS, type Example } from './command.js';

const WIDTH = 116;

export const EXIT_CODES = 'Exit codes: 0 success, 1 failure, 2 invalid configuration or usage.';

export const PURPOSE =
  'gitaly-tls-proxy terminates TLS in front of Gitaly and relays its gRPC traffic, including the backchannel.';

/** The commands whose first example the main help shows, for a newcomer. */
const FIRST_STEPS = ['demo', 'serve', 'check'];

/** `gitaly-tls-proxy --help`. */
export function mainHelp(commands: readonly CommandEntry[]): string {
  const examples = FIRST_STEPS.flatMap(
    (name) => commands.find((command) => command.name === name)?.examples.slice(0, 1) ?? [],
  );
  return text([
    [PURPOSE],
    ['Usage: gitaly-tls-proxy [COMMAND] [FLAGS]'],
    ['Commands:', ...listCommands(commands)],
    ['Flags:', ...listFlags(COMMON_FLAGS)],
    ['Get started:', ...listExamples(examples)],
    ['Help for a command: gitaly-tls-proxy COMMAND --help', EXIT_CODES],
  ]);
}

/** `gitaly-tls-proxy GROUP --help`, for commands of two words. */
export function groupHelp(group: string, commands: readonly CommandEntry[]): string {
  return text([
    [`Usage: gitaly-tls-proxy ${group} COMMAND [FLAGS]`],
    ['Commands:', ...listCommands(commands)],
    ['Flags:', ...listFlags(COMMON_FLAGS)],
  ]);
}

/** `gitaly-tls-proxy COMMAND --help`. */
export function helpOf(command: CommandEntry): string {
  const { name, description, usage, flags, examples } = command;
  return text([
    ...description.map((paragraph) => wrap(paragraph, WIDTH)),
    usage.map((each, index) =>
      `${index === 0 ? 'Usage:' : '      '} gitaly-tls-proxy ${name} ${each}`.trimEnd(),
    ),
    ['Flags:', ...listFlags([...flags, ...COMMON_FLAGS])],
    [examples.length === 1 ? 'Example:' : 'Examples:', ...listExamples(examples)],
    [EXIT_CODES],
  ]);
}

/** `--listen URL`, `--help, -h`. */
export function flagTitle({ name, short, value, takesMore }: CommandFlag): string {
  const more = takesMore === true ? '...' : '';
  const label = value === undefined ? '' : ` ${value.label}${more}`;
  return `--${name}${label}${short === undefined ? '' : `, -${short}`}`;
}

function listCommands(commands: readonly CommandEntry[]): string[] {
  return columns(
    commands.map(({ name, usage: [shortest = ''], flags, summary }) => {
      const words = flags.length === 0 ? shortest : shortest.replace(/ ?\[?--.*/u, '');
      return [`${name} ${words}`.trimEnd(), summary];
    }),
  );
}

function listFlags(flags: readonly CommandFlag[]): string[] {
  return columns(flags.map((flag) => [flagTitle(flag), flag.text]));
}

function listExamples(examples: readonly Example[]): string[] {
  return examples.flatMap(({ text: purpose, line }) => [`  # ${purpose}`, `  ${line}`]);
}

/** Two columns, the second wrapped. */
function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.flatMap(([left, right]) =>
    wrap(right, WIDTH - width - 2).map(
      (line, index) => `  ${(index === 0 ? left : '').padEnd(width)}${line}`,
    ),
  );
}

function wrap(paragraph: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of paragraph.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** Joins blocks of lines with an empty line between them. */
function text(blocks: readonly (readonly string[])[]): string {
  return `${blocks.map((block) => block.join('\n')).join('\n\n')}\n`;
}

/** The error for a command line without arguments. */
export const NO_ARGUMENTS = `no arguments given; serve with a configuration file or with flags, or try the demo:
  gitaly-tls-proxy serve --config FILE
  gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 --cert cert.pem --key key.pem
  gitaly-tls-proxy demo
Help: gitaly-tls-proxy --help`;
