import inspector from 'node:inspector';

/** Node's options that enable the debugger: `--inspect`, `--inspect-brk=…`, `--inspect-wait`. */
const INSPECT = /^--inspect(?:-brk|-wait)?(?:=|$)/u;

/** Whether Node's command line enables the debugger. */
export function isDebuggerWanted(execArgv: readonly string[] = process.execArgv): boolean {
  return execArgv.some((argument) => INSPECT.test(argument));
}

/**
 * Closes a debugger that a SIGUSR1 opened while Node was starting, before the program could handle the signal. Node opens it in
 * an interrupt and again in the first turn of the event loop, so it is also closed in the following turns.
 */
export function closeDebugger(): void {
  if (isDebuggerWanted()) return;
  const close = (): void => {
    if (inspector.url() === undefined) return;
    inspector.close();
    process.stderr.write('gitaly-tls-proxy: closed the debugger that SIGUSR1 had opened\n');
  };
  close();
  setImmediate(() => {
    close();
    setImmediate(close);
  });
}
