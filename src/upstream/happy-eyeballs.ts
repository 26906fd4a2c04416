import { lookup, type LookupAddress } from 'node:dns';
import { isIP, type Socket } from 'node:net';

import { codeOrMessage } from '../error-codes.js';
import { HAPPY_EYEBALLS_DELAY_MS } from '../limits.js';
import { UpstreamFailure } from './failure.js';

/** Makes one attempt to connect to an IP address; the socket emits `connect` or `error`. */
export type Attempt = (address: string) => Socket;

/**
 * Connects to the first address of a host that answers, as RFC 8305 describes: families alternate, beginning with
 * the one that the system's resolver put first; the next attempt starts 250 ms after the last, or at once when one
 * fails; the first that connects wins and the others are ended.
 *
 * Node's own `autoSelectFamily` gives each address up when the next one is begun, which fails with slow addresses.
 *
 * When `signal` aborts, the attempts end and the promise rejects with its reason, or with `DialAborted`.
 */
export function dialHost(host: string, port: number, signal: AbortSignal, attempt: Attempt): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const open = new Set<Socket>();
    const failures: string[] = [];
    let timer: NodeJS.Timeout | undefined;
    let isFinished = false;

    const finish = (outcome: Socket | Error): void => {
      if (isFinished) return;
      isFinished = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      for (const socket of open) if (socket !== outcome) socket.destroy();
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    const abort = (): void => finish(abortError(signal));

    const tryNext = (queue: string[]): void => {
      clearTimeout(timer);
      const address = queue.shift();
      if (address === undefined || isFinished) return;
      const socket = attempt(address);
      open.add(socket);
      const onError = (error: Error): void => {
        open.delete(socket);
        failures.push(error.message);
        if (queue.length > 0) tryNext(queue);
        else if (open.size === 0) finish(allFailed(error, failures));
      };
      socket.once('error', onError);
      socket.once('connect', () => {
        socket.off('error', onError);
        finish(socket);
      });
      if (queue.length > 0) timer = setTimeout(() => tryNext(queue), HAPPY_EYEBALLS_DELAY_MS);
    };

    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    if (isIP(host)) {
      tryNext([host]);
      return;
    }
    // The system's resolver: /etc/hosts and search domains count, as for Gitaly's own clients.
    lookup(host, { all: true, order: 'verbatim' }, (error, addresses) => {
      if (error) {
        const cause = codeOrMessage(error);
        finish(
          new UpstreamFailure('name_not_found', `the name ${host} (port ${port}) does not resolve: ${cause}`),
        );
      } else tryNext(alternateFamilies(addresses));
    });
  });
}

/** The rejection of a dial that a signal has aborted: its reason where that is an error. */
export function abortError(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new DialAborted();
}

/** The connection that a dial was for has ended. */
export class DialAborted extends Error {
  constructor() {
    super('the dial was aborted');
  }
}

/** With several addresses the message contains every failure; the reason is that of the last. */
function allFailed(last: Error, failures: readonly string[]): Error {
  if (failures.length > 1) last.message = failures.join('; ');
  return last;
}

/** RFC 8305 section 4: "the client MUST … interleave address families", the first family first. */
export function alternateFamilies(addresses: readonly LookupAddress[]): string[] {
  const first = addresses[0]?.family;
  const preferred = addresses.filter(({ family }) => family === first);
  const others = addresses.filter(({ family }) => family !== first);
  const ordered: string[] = [];
  for (let index = 0; index < Math.max(preferred.length, others.length); index++) {
    for (const list of [preferred, others]) {
      const entry = list[index];
      if (entry) ordered.push(entry.address);
    }
  }
  return ordered;
}
