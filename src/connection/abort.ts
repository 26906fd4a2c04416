import type { Socket } from 'node:net';

/**
 * Breaks a connection off so that its peer sees an error. On TCP that is a reset: a bare FIN reads as a clean end
 * to Go's TLS. A unix socket has no reset; its peer sees the end.
 */
export function abort(raw: Socket): void {
  if (raw.destroyed) return;
  if (raw.remoteFamily === undefined && !raw.connecting) raw.destroy();
  else raw.resetAndDestroy();
}
