import { ignoreSignals } from '../../process/signals.js';
import { Worker } from '../../serving/workers/worker.js';
import type { Order } from '../../serving/workers/worker-messages.js';
import { readVersion } from '../../version.js';
import { outliveFaults } from './outlive-faults.js';
import type { Socket } from 'node:net';

/** Serves connections for the primary process until that has it drained. Returns the exit code. */
export async function runWorker(): Promise<number> {
  ignoreSignals();
  const worker = new Worker(readVersion());
  outliveFaults(worker.logger, worker.metrics);
  process.on('message', (order: Order, socket: Socket | undefined) => worker.handle(order, socket));
  worker.begin();
  await worker.finished;
  return 0;
}
