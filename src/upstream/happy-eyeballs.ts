import { lookup, type LookupAddress } from 'node:dns';
import { isIP, type Socket } from 'node:net';

import { HAPPY_EYEBALLS_DELAY_MS } from '../limits.js';
import { UpstreamFailure } from './failure.js';

/** A dial that is under way; `cancel` ends it and rejects the promise. */
export interface Dial<T> {
  readonly done: Promise<T>;
  readonly cancel: (reason: Error) => void;
}

/** Makes one attempt to connect to an IP address; the socket emits `connect` or `error`. */
export type Attempt = (address: string) => Socket;

/**
 * Connects to the first address of a host that answers, as RFC 8305 describes: families alternate, beginning with
 * the one that the system's resolver put first; the next attempt starts 250 ms after the last, or at once when one
 * fails; the first that connects wins and the others are ended.
 *
 * Node's own `autoSelectFamily` gives each address up when the next one is begun, which fails with slow addresses.
 */
export function dialHost(host: string, port: number, attempt: Attempt): Dial<Socket> {
  const open = new Set<Socket>();
  const failures: string[] = [];
  let timer: NodeJS.Timeout | undefined;
  let finish: (outcome: Socket | Error) => void = () => undefined;
  let finished = false;

  const done = new Promise<Socket>((resolve, reject) => {
    finish = (outcome) => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      for (const socket of open) if (socket !== outcome) socket.destroy();
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
  });

  const tryNext = (queue: string[]): void => {
    clearTimeout(timer);
    const address = queue.shift();
    if (address === undefined || finished) return;
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

  if (isIP(host)) {
    tryNext([host]);
  } else {
    // The system's resolver: /etc/hosts and search domains count, as for Gitaly's own clients.
    lookup(host, { all: true, order: 'verbatim' }, (error, addresses) => {
      if (error)
        finish(
          new UpstreamFailure(
            'name_not_found',
            `the name ${host} (port ${port}) does not resolve: ${error.code ?? error.message}`,
          ),
        );
      else tryNext(alternateFamilies(addresses));
    });
  }
  return { done, cancel: (reason) => finish(reason) };
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
