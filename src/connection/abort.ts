import type { Socket } from 'node:net';

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
