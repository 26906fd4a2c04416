import type { Readable } from 'node:stream';

/** The first thing that a program writes: a port, for one. Rejects if it ends without. */
export function firstOutput(stream: Readable): Promise<string> {
  return new Promise((resolve, reject) => {
    stream.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    stream.once('end', () => reject(new Error('the program ended and has written nothing')));
  });
}
