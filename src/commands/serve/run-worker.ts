import { ignoreSignals } from '../../process/signals.js';
import { Worker } from '../../serving/workers/worker.js';
import type { Order } from '../../serving/workers/worker-messages.js';
import { readVersion } from '../../version.js';
import { installCrashGuards } from './crash-guards.js';
import type { Socket } from 'node:net';

/** Serves connections for the primary process until it has drained this worker. Returns the exit code. */
export async function runWorker(): Promise<number> {
  ignoreSignals();
  const worker = new Worker(readVersion());
  installCrashGuards(worker.logger, worker.metrics);
  process.on('message', (order: Order, socket: Socket | undefined) => worker.handle(order, socket));
  worker.begin();
  await worker.finished;
  return 0;
}
