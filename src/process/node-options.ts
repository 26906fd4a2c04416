/** The Node versions with this option never open the debugger at SIGUSR1, not even before the program handles the signal. */
const DISABLE_SIGUSR1 = '--disable-sigusr1';

/**
 * Node's arguments for a child process: those of this process, and the option that disables the debugger's signal, if
 * supported.
 */
export function childExecArgv(execArgv: readonly string[] = process.execArgv): string[] {
  const isKnown = process.allowedNodeEnvironmentFlags.has(DISABLE_SIGUSR1);
  return isKnown && !execArgv.includes(DISABLE_SIGUSR1) ? [...execArgv, DISABLE_SIGUSR1] : [...execArgv];
}

/** Options in NODE_OPTIONS that change neither the behaviour of the program nor who can inspect it: memory and warnings. */
const HARMLESS: ReadonlySet<string> = new Set([
  DISABLE_SIGUSR1,
  '--max-old-space-size',
  '--max-old-space-size-percentage',
  '--initial-old-space-size',
  '--max-semi-space-size',
  '--min-semi-space-size',
  '--semi-space-growth-factor',
  '--max-heap-size',
  '--v8-pool-size',
  '--use-largepages',
  '--stack-trace-limit',
  '--enable-source-maps',
  '--no-enable-source-maps',
  '--warnings',
  '--no-warnings',
  '--disable-warning',
  '--trace-warnings',
  '--trace-deprecation',
  '--deprecation',
  '--no-deprecation',
]);

/** The options in a NODE_OPTIONS that are not harmless, as written. Values that are separate words are skipped. */
export function harmfulNodeOptions(value: string): string[] {
  return words(value).filter((word) => {
    if (!word.startsWith('-')) return false;
    const name = word.replace(/=.*$/su, '').replaceAll('_', '-');
    return !HARMLESS.has(name);
  });
}

/** Splits as Node does: at spaces outside double quotes. Inside quotes, a backslash escapes the next character. */
function words(value: string): string[] {
  const found: string[] = [];
  let word: string | undefined;
  let isQuoted = false;
  for (let index = 0; index < value.length; index++) {
    let character = value.charAt(index);
    if (character === '\\' && isQuoted) character = value.charAt(++index);
    else if (character === '"') {
      isQuoted = !isQuoted;
      word ??= '';
      continue;
    } else if (character === ' ' && !isQuoted) {
      if (word !== undefined) found.push(word);
      word = undefined;
      continue;
    }
    word = (word ?? '') + character;
  }
  if (word !== undefined) found.push(word);
  return found;
}
