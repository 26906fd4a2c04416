/** The only argument of a worker's process; `ps` shows it. */
export const WORKER_ARGUMENT = 'worker';
