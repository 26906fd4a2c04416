import type { Socket } from 'node:net';

import { READ_BUFFER_BYTES } from '../limits.js';

/** As long as the high-water mark of a socket's readable side, at the least: nothing fits beside it. */
const FILLER = Buffer.alloc(READ_BUFFER_BYTES);

/**
 * Stops the reading of a socket from within its `data` event, before the event returns; `resume()` in a later turn of the
 * event loop goes on. `pause()` does not: the socket is read until it holds as much as its high-water mark.
 *
 * Where a hang-up comes together with bytes, libuv makes an `end` of it without asking the kernel, unless reading was
 * stopped while the bytes were handed over (uv__stream_io in its unix/stream.c): a reset looks like an end then. The read
 * that follows is told of a reset.
 */
export function stopRead(socket: Socket): void {
  socket.pause();
  if (!socket.readableEnded) socket.unshift(FILLER);
}

/** Whether what a `data` event brought is nothing that was sent, but what `stopRead` had filled the socket with. */
export function isFiller(chunk: Buffer): boolean {
  // The socket hands over a view of its own.
  return chunk.buffer === FILLER.buffer;
}
