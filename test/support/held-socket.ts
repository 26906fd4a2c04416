import { once } from 'node:events';
import type { AddressInfo, ListenOptions } from 'node:net';
import { Worker } from 'node:worker_threads';

import { onTestFinished } from 'vitest';

/** A listening socket that the test keeps for the processes that inherit it. */
export interface HeldSocket {
  /** Of this process; the program gets a copy. */
  readonly fd: number;
  /** 0 for a unix socket. */
  readonly port: number;
}

/** Binds a socket on which connections wait until a program accepts them; it is closed with the test. */
export async function holdSocket(where: ListenOptions): Promise<HeldSocket> {
  const gate = new SharedArrayBuffer(4);
  const thread = new Worker(new URL('hold-socket.mjs', import.meta.url), { workerData: { where, gate } });
  const ended = once(thread, 'exit');
  const [held] = (await once(thread, 'message')) as [{ fd: number; address: AddressInfo | string }];
  onTestFinished(async () => {
    const word = new Int32Array(gate);
    Atomics.store(word, 0, 1);
    Atomics.notify(word, 0);
    await ended;
  });
  return { fd: held.fd, port: typeof held.address === 'string' ? 0 : held.address.port };
}
