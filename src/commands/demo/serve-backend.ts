// Must precede all other imports: by default SIGUSR1 opens Node's debugger.
process.on('SIGUSR1', () => undefined);
const { closeDebugger } = await import('../../process/debugger.js');
closeDebugger();
const { parseArgs } = await import('node:util');
const { DemoBackend } = await import('./demo-backend.js');

// `node dist/demo/serve-backend.js --port 8075`: the demo's backend alone, on all interfaces, until a signal ends it.
// docker-compose.yml runs it in place of Gitaly.
const { values } = parseArgs({ options: { port: { type: 'string', default: '8075' } } });
const backend = await DemoBackend.start(Number(values.port), '0.0.0.0');
process.stdout.write(`backend on port ${backend.port}\n`);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => backend.stop());
export {};
