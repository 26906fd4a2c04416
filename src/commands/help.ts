import { type CommandEntry, type CommandFlag, COMMON_FLAGS } from './command.js';

const WIDTH = 116;

export const EXIT_CODES = 'Exit codes: 0 fine, 1 failed, 2 wrong configuration or usage.';

export const PURPOSE =
  'gitaly-tls-proxy terminates TLS in front of Gitaly and relays what is inside, the backchannel included.';

/** `gitaly-tls-proxy --help`. */
export function mainHelp(commands: readonly CommandEntry[]): string {
  const first = commands.flatMap(({ examples: [example] }) => (example === undefined ? [] : [example.line]));
  return text([
    [PURPOSE],
    ['Usage: gitaly-tls-proxy [COMMAND] [FLAGS]'],
    ['Commands:', ...listCommands(commands)],
    ['Flags:', ...listFlags(COMMON_FLAGS)],
    ['Start with one of:', ...first.slice(0, 3).map((line) => `  ${line}`)],
    [EXIT_CODES],
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
    [
      examples.length === 1 ? 'Example:' : 'Examples:',
      ...examples.flatMap((example) => [`  # ${example.text}`, `  ${example.line}`]),
    ],
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

/** Blocks of lines, with an empty line between. */
function text(blocks: readonly (readonly string[])[]): string {
  return `${blocks.map((block) => block.join('\n')).join('\n\n')}\n`;
}

/** The hint for a command line without arguments. */
export const SHORTEST_WAYS = `say what to serve, or try the demo:
  gitaly-tls-proxy serve --config FILE
  gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 --cert cert.pem --key key.pem
  gitaly-tls-proxy demo
All flags: gitaly-tls-proxy --help`;
