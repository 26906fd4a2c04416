// Must precede all other imports: by default SIGUSR1 opens Node's debugger.
process.on('SIGUSR1', () => undefined);
const { closeDebugger } = await import('../../process/debugger.js');
closeDebugger();
const { mkdir } = await import('node:fs/promises');
const path = await import('node:path');
const { createThrowawayCertificates } = await import('./throwaway-certificates.js');

// `node dist/demo/write-certificates.js DIRECTORY`: writes the demo's certificates for docker-compose.yml. They are valid
// for one day and replaced at each start.
const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: node dist/demo/write-certificates.js DIRECTORY');
await mkdir(directory, { recursive: true, mode: 0o755 });
await createThrowawayCertificates(directory);
process.stdout.write(`certificates in ${path.join(directory, '/')}\n`);
export {};
