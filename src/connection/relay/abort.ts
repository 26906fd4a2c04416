import type { Socket } from 'node:net';

import { FAREWELL_MS } from '../../limits.js';

/**
 * Breaks a connection off so that its peer sees an error. On TCP that is a reset: a bare FIN reads as a clean end
 * to Go's TLS. A unix socket has no reset; its peer sees the end.
 *
 * `stream` is what was written to, where that is TLS above `raw`.
 */
export function abort(raw: Socket, stream: Socket = raw): void {
  if (raw.destroyed) return;
  // While an end of ours is under way libuv refuses to reset (uv_tcp_close_reset, EINVAL) and would keep the descriptor.
  // By then all bytes have been taken (see `endWhenTaken`), so a FIN is the truth.
  const ending = [raw, stream].some((socket) => socket.writableEnded && !socket.writableFinished);
  if (ending || (raw.remoteFamily === undefined && !raw.connecting)) {
    stream.destroy();
    raw.destroy();
  } else {
    raw.resetAndDestroy();
  }
}

/**
 * Says last words to a client and lets it go: once it has left, or has had the time to. Until then what it sends is read and
 * dropped, as a reset for unread bytes could overtake the words.
 */
export function farewell(raw: Socket, stream: Socket, words: Buffer): void {
  if (raw.destroyed || words.length === 0 || stream.writableEnded) {
    abort(raw, stream);
    return;
  }
  stream.write(words);
  leaveAfterwards(raw, stream);
}

/** Ends a connection whose last words were written; otherwise as `farewell`. */
export function leaveAfterwards(raw: Socket, stream: Socket): void {
  abortLater(raw, stream);
  stream.once('end', () => raw.destroy());
  stream.end();
  stream.resume();
}

/** Breaks a connection off if it is there still when a farewell has had its time. */
function abortLater(raw: Socket, stream: Socket): void {
  const timer = setTimeout(() => abort(raw, stream), FAREWELL_MS);
  raw.once('close', () => clearTimeout(timer));
}

/** Ends a connection on which nothing is open; a client that does not end it too is not waited for. */
export function endGently(raw: Socket, stream: Socket): void {
  if (raw.destroyed || stream.writableEnded) return;
  const timer = setTimeout(() => raw.destroy(), FAREWELL_MS);
  raw.once('close', () => clearTimeout(timer));
  stream.end();
}

/** Destroys a closing connection that the client has not ended within `FAREWELL_MS` after everything was written. */
export function destroyOnceEnded(raw: Socket, stream: Socket): void {
  const wait = (): void => {
    const timer = setTimeout(() => raw.destroy(), FAREWELL_MS);
    raw.once('close', () => clearTimeout(timer));
  };
  if (stream.writableFinished) wait();
  else stream.once('finish', wait);
}

/** For `error` of a socket whose errors are inspected when it closes; without a listener Node would end the process. */
export function inspectAtClose(): void {
  // See above.
}
