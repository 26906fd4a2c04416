import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';

import type { BackendConnection, RawBackend } from './backends.js';
import { BACKCHANNEL_PREFACE } from './clients.js';

export const MIB = 1024 * 1024;

const BLOCK = randomBytes(256 * 1024);

/** Opens a connection of a client through to the backend, by the first bytes of a backchannel. */
export async function connected(client: Socket, backend: RawBackend): Promise<BackendConnection> {
  const arrived = backend.accept();
  client.write(BACKCHANNEL_PREFACE);
  const upstream = await arrived;
  await upstream.receive(BACKCHANNEL_PREFACE.length);
  return upstream;
}

/** The socket of a backend's connection, which from now on keeps nothing of what it is sent. */
export function unrecorded({ socket }: BackendConnection): Socket {
  return socket.removeAllListeners('data').pause();
}

/** Writes random bytes in slices of all sizes, from one byte on, as fast as they are taken; then ends. Their SHA-256. */
export async function send(socket: Socket, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  for (let sent = 0, index = 1; sent < bytes; index++) {
    const chunk = BLOCK.subarray(0, Math.min((index * 7919) % BLOCK.length || 1, bytes - sent, index ** 2));
    hash.update(chunk);
    sent += chunk.length;
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

/** Reads to the end with a pause after each chunk, for all else that waits in the event loop. The SHA-256 of it. */
export async function receiveSlowly(socket: Socket): Promise<string> {
  const hash = createHash('sha256');
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    socket.pause();
    setImmediate(() => socket.resume());
  });
  socket.resume();
  await once(socket, 'end');
  return hash.digest('hex');
}

/** Sends and receives on both sides at once; returns what each sent and received. */
export async function exchange(client: Socket, upstream: Socket, bytes: number): Promise<Exchange> {
  const [sentUp, sentDown, gotUp, gotDown] = await Promise.all([
    send(client, bytes),
    send(upstream, bytes),
    receiveSlowly(upstream),
    receiveSlowly(client),
  ]);
  return { sent: [sentUp, sentDown], got: [gotUp, gotDown] };
}

/** SHA-256 of the client's bytes and of the backend's, as they were sent and as they arrived. */
export interface Exchange {
  readonly sent: readonly [up: string, down: string];
  readonly got: readonly [up: string, down: string];
}

/** The memory that a process has in RAM (VmRSS of proc(5)), bytes. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}
