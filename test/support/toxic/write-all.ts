import type { Socket } from 'node:net';

/** Writes buffers one after the other as the socket takes them, or until it is closed. */
export async function writeAll(socket: Socket, buffers: Iterable<Buffer>): Promise<void> {
  for (const bytes of buffers) {
    if (!socket.writable) return;
    if (socket.write(bytes)) continue;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        socket.off('drain', go).off('close', go);
        resolve();
      };
      socket.on('drain', go).on('close', go);
    });
  }
}
