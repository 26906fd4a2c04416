import { type CommandEntry, type Completes, type CommandFlag, COMMON_FLAGS } from '../command.js';

/** The supported shells, each with the function that writes its script. */
export const COMPLETIONS = { bash, zsh, fish } as const;

export function isShell(name: string): name is keyof typeof COMPLETIONS {
  return Object.hasOwn(COMPLETIONS, name);
}

/** The command if the first argument is a flag. */
const DEFAULT_COMMAND = 'serve';

/** The first words of two-word commands. */
function groupsOf(commands: readonly CommandEntry[]): string[] {
  return [...new Set(commands.flatMap(({ name }) => (name.includes(' ') ? [name.replace(/ .*/u, '')] : [])))];
}

/** The words that can follow the program's name (key `''`) or the first word of a two-word command, with summaries. */
function nextWords(commands: readonly CommandEntry[]): Map<string, Map<string, string>> {
  const next = new Map<string, Map<string, string>>();
  const add = (before: string, word: string, summary: string): void => {
    next.set(before, (next.get(before) ?? new Map<string, string>()).set(word, summary));
  };
  for (const { name, summary } of commands) {
    const [first = '', second] = name.split(' ');
    if (second === undefined) add('', first, summary);
    else add(first, second, summary);
  }
  for (const group of groupsOf(commands))
    add('', group, [...(next.get(group) ?? new Map<string, string>()).keys()].join(', '));
  return next;
}

const allFlags = ({ flags }: CommandEntry): readonly CommandFlag[] => [...flags, ...COMMON_FLAGS];

const spellings = ({ name, short }: CommandFlag): string[] => [
  `--${name}`,
  ...(short === undefined ? [] : [`-${short}`]),
];

/** Quotes a text as one word for any of the three shells. */
function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function bash(commands: readonly CommandEntry[]): string {
  const propose = (words: readonly string[]): string =>
    `COMPREPLY=($(compgen -W ${quote(words.join(' '))} -- "$cur"))`;
  const complete = (completes: Completes): string => {
    if (completes === 'file') return 'compopt -o default';
    if (completes === 'directory') return 'compopt -o dirnames';
    return completes === 'nothing' ? ':' : propose(completes);
  };
  const afterFlag = commands.flatMap((command) =>
    command.flags.flatMap(({ name, value }) =>
      value === undefined
        ? []
        : [`    ${quote(`${command.name} --${name}`)}) ${complete(value.completes)}; return ;;`],
    ),
  );
  const flags = commands.map(
    (command) => `      ${quote(command.name)}) ${propose(allFlags(command).flatMap(spellings))} ;;`,
  );
  const words = [
    ...[...nextWords(commands)].map(
      ([before, next]) => `    ${quote(before)}) ${propose([...next.keys()])} ;;`,
    ),
    ...commands.flatMap((command) =>
      command.words === undefined
        ? []
        : [`    ${quote(command.name)}) ${complete(command.words.completes)} ;;`],
    ),
  ];
  return `# bash completion for gitaly-tls-proxy
_gitaly_tls_proxy() {
  local cur=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} name=''
  COMPREPLY=()
  # Bash splits --flag=value into three words.
  if [[ $cur == '=' ]]; then
    cur=''
  elif [[ $before == '=' ]]; then
    before=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if ((COMP_CWORD > 1)); then name=\${COMP_WORDS[1]}; fi
  case $name in
    -*) name=${DEFAULT_COMMAND} ;;
    ${groupsOf(commands).join(' | ')}) if ((COMP_CWORD > 2)); then name+=" \${COMP_WORDS[2]}"; fi ;;
  esac
  case "$name $before" in
${afterFlag.join('\n')}
  esac
  if [[ $cur == -* ]]; then
    case \${name:-${DEFAULT_COMMAND}} in
${flags.join('\n')}
    esac
    return
  fi
  case $name in
${words.join('\n')}
  esac
}
complete -F _gitaly_tls_proxy gitaly-tls-proxy
`;
}

function zsh(commands: readonly CommandEntry[]): string {
  const action = (label: string, completes: Completes): string => {
    const message = label.replaceAll(':', String.raw`\:`);
    if (completes === 'file') return `:${message}:_files`;
    if (completes === 'directory') return `:${message}:_files -/`;
    return `:${message}:${completes === 'nothing' ? ' ' : `(${completes.join(' ')})`}`;
  };
  const flag = (each: CommandFlag): string => {
    const { value, repeatable, text } = each;
    const explanation = `[${text.replaceAll(/[[\]\\]/gu, String.raw`\$&`)}]`;
    const argument = value === undefined ? '' : action(value.label, value.completes);
    const names = spellings(each);
    const head = repeatable === true ? '*' : `(${names.join(' ')})`;
    return names
      .map((name) =>
        quote(
          `${head}${name}${value !== undefined && name.startsWith('--') ? '=' : ''}${explanation}${argument}`,
        ),
      )
      .join(' ');
  };
  const cases = commands.map((command) => {
    const words =
      command.words === undefined
        ? []
        : [
            quote(
              `${command.words.most === 1 ? '1' : '*'}${action(command.words.label, command.words.completes)}`,
            ),
          ];
    return `    ${quote(command.name)}) _arguments -s ${[...allFlags(command).map(flag), ...words].join(' ')} ;;`;
  });
  const describe = [...nextWords(commands)].map(([before, next]) => {
    const each = [...next].map(([word, summary]) =>
      quote(`${word}:${summary.replaceAll(':', String.raw`\:`)}`),
    );
    return `      ${quote(before)}) next=(${each.join(' ')}) ;;`;
  });
  return `#compdef gitaly-tls-proxy
_gitaly-tls-proxy() {
  local name=$words[2]
  local -i taken=1
  local -a next
  case $name in
    -*) name=${DEFAULT_COMMAND} taken=0 ;;
    ${groupsOf(commands).join('|')}) name+=" $words[3]" taken=2 ;;
  esac
  if ((CURRENT <= taken + 1)); then
    case $words[2,CURRENT-1] in
${describe.join('\n')}
    esac
    _describe command next
    return
  fi
  words[2,taken+1]=()
  ((CURRENT -= taken))
  case $name in
${cases.join('\n')}
  esac
}
if [[ $funcstack[1] == _gitaly-tls-proxy ]]; then
  _gitaly-tls-proxy "$@"
else
  compdef _gitaly-tls-proxy gitaly-tls-proxy
fi
`;
}

function fish(commands: readonly CommandEntry[]): string {
  const complete = (name: string, rest: string): string =>
    `complete -c gitaly-tls-proxy -n ${quote(`__gitaly_tls_proxy_is ${quote(name)}`)} ${rest}`;
  const completes = (what: Completes): string => {
    if (what === 'file') return ' -r -F';
    if (what === 'directory') return " -x -a '(__fish_complete_directories)'";
    return what === 'nothing' ? ' -x' : ` -x -a ${quote(what.join(' '))}`;
  };
  const next = [...nextWords(commands)].flatMap(([before, words]) =>
    [...words].map(([word, summary]) => complete(before, `-a ${word} -d ${quote(summary)}`)),
  );
  const rest = commands.flatMap((command) => [
    ...allFlags(command).map(({ name, short, value, text }) =>
      complete(
        command.name,
        `-l ${name}${short === undefined ? '' : ` -s ${short}`}` +
          `${value === undefined ? '' : completes(value.completes)} -d ${quote(text)}`,
      ),
    ),
    ...(command.words === undefined
      ? []
      : [
          complete(
            command.name,
            completes(command.words.completes).replace(' -r', '').replace(' -x', '').trim(),
          ),
        ]),
  ]);
  return `# fish completion for gitaly-tls-proxy
function __gitaly_tls_proxy_is -a name
    set -l given (commandline -opc)[2..]
    set -l command "$given[1]"
    switch "$command"
        case '-*'
            set command ${DEFAULT_COMMAND}
        case ${groupsOf(commands).join(' ')}
            set command "$given[1..2]"
        case ''
            string match -q -- '-*' (commandline -ct); and set command ${DEFAULT_COMMAND}
    end
    test "$command" = "$name"
end
complete -c gitaly-tls-proxy -f
${[...next, ...rest].join('\n')}
`;
}
