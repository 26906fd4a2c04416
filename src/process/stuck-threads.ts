import { setTimeout as delay } from 'node:timers/promises';

import { END_POLL_MS, STUCK_THREAD_MS } from '../limits.js';

/** The work of libuv's threads, by the names of `process.getActiveResourcesInfo()`: files and DNS. */
const ON_THREADS: ReadonlySet<string> = new Set([
  'FSReqCallback',
  'FSReqPromise',
  'FileHandleCloseReq',
  'GetAddrInfoReqWrap',
  'GetNameInfoReqWrap',
]);

/**
 * Whether a thread is blocked by a system call that does not return: a file on a hung file system, or DNS without an answer.
 * Work that returns within `STUCK_THREAD_MS` does not count.
 */
export async function hasStuckThread(): Promise<boolean> {
  const until = performance.now() + STUCK_THREAD_MS;
  while (process.getActiveResourcesInfo().some((resource) => ON_THREADS.has(resource))) {
    if (performance.now() >= until) return true;
    await delay(END_POLL_MS);
  }
  return false;
}

/**
 * Ends a process with a stuck thread, for which `process.exit` would wait. If Node can replace the process (22.15 and newer),
 * the exit code is `exitCode`. Otherwise the process ends by SIGTERM if that is 0, which service managers treat as success, and
 * by SIGKILL if not.
 */
export function endInSpiteOfThreads(exitCode: number): void {
  const execve: unknown = Reflect.get(process, 'execve');
  if (typeof execve === 'function')
    Reflect.apply(execve, process, [
      process.execPath,
      [process.execPath, '--eval', `process.exitCode = ${exitCode}`],
      {},
    ]);
  const signal = exitCode === 0 ? 'SIGTERM' : 'SIGKILL';
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  // The first process of a container ignores its own signals.
  setTimeout(() => process.abort(), STUCK_THREAD_MS);
}
