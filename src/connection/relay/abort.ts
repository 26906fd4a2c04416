import type { Socket } from 'node:net';

import { FAREWELL_MS } from '../../limits.js';

/**
 * Aborts a connection so that its peer sees an error. On TCP that is a reset, because Go's TLS treats a bare FIN as a clean end. A
 * unix socket has no reset; its peer sees an end.
 *
 * `stream` is the stream that was written to, if that is TLS above `raw`.
 */
export function abort(raw: Socket, stream: Socket = raw): void {
  if (raw.destroyed) return;
  // While our own end is in progress, libuv refuses to reset (uv_tcp_close_reset, EINVAL) and would keep the descriptor. The kernel
  // has accepted all bytes by then (see `endWhenTaken`), so a FIN is correct.
  const ending = [raw, stream].some((socket) => socket.writableEnded && !socket.writableFinished);
  if (ending || (raw.remoteFamily === undefined && !raw.connecting)) {
    stream.destroy();
    raw.destroy();
  } else {
    raw.resetAndDestroy();
  }
}

/**
 * Sends the last bytes to a client, and closes the connection once the client has closed it, at the latest after `FAREWELL_MS`.
 * Until then, bytes from the client are read and dropped, because a reset for unread bytes could overtake the last bytes.
 */
export function farewell(raw: Socket, stream: Socket, words: Buffer): void {
  if (raw.destroyed || words.length === 0 || stream.writableEnded) {
    abort(raw, stream);
    return;
  }
  stream.write(words);
  leaveAfterwards(raw, stream);
}

/** Like `farewell`, for a connection whose last bytes were already written. */
export function leaveAfterwards(raw: Socket, stream: Socket): void {
  abortLater(raw, stream);
  stream.once('end', () => raw.destroy());
  stream.end();
  stream.resume();
}

/** Aborts a connection that is still open after `FAREWELL_MS`. */
function abortLater(raw: Socket, stream: Socket): void {
  const timer = setTimeout(() => abort(raw, stream), FAREWELL_MS);
  raw.once('close', () => clearTimeout(timer));
}

/** Ends a connection without open requests. If the client does not end it within `FAREWELL_MS`, it is destroyed. */
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

/** An `error` listener for a socket whose error is inspected at `close`. Without a listener Node would end the process. */
export function inspectAtClose(): void {
  // The error is inspected at `close`.
}
