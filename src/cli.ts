#!/usr/bin/env -S node --initial-old-space-size=64
// The flag is about speed alone (docs/benchmarks.md): TLS hands every record over in a buffer outside of the heap, which
// V8 counts, and with its defaults it may answer 25 MB of them with a full collection.
//
// This file imports nothing before the signals are handled. Imports take time, and meanwhile SIGUSR1 would open Node's
// debugger to every local user, and SIGUSR2 and SIGHUP would end the process. A SIGHUP of that time is acted on once the
// program is loaded.
for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) process.on(signal, () => undefined);
let hungUp = false;
const noteHangUp = (): void => {
  hungUp = true;
};
process.on('SIGHUP', noteHangUp);

const { main } = await import('./main.js');
await main({
  program: import.meta.filename,
  takeEarlyHangUp: () => {
    process.off('SIGHUP', noteHangUp);
    return hungUp;
  },
});
export {};
