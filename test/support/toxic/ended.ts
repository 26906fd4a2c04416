import type { Socket } from 'node:net';

const EMPTY = Buffer.alloc(0);

/**
 * What an `end` was. A reset that comes together with bytes, or while the socket is paused, is an `end` on Node 20; then a
 * write fails. EPIPE is what it fails with when all bytes and the FIN had come before the reset. `raw` is the socket below
 * TLS, or the only one.
 */
export function endOrReset(raw: Socket, tell: (kind: 'end' | 'reset') => void): void {
  const judge = (error: Error | null | undefined): void =>
    tell(error && !('code' in error && error.code === 'EPIPE') ? 'reset' : 'end');
  if (raw.destroyed || raw.writableEnded) judge(raw.errored);
  // A write that waits for its peer to read fails within this turn if it was reset; another would wait behind it.
  else if (raw.writableLength > 0) setImmediate(() => judge(raw.errored));
  else raw.write(EMPTY, judge);
}
