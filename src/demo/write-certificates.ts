import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { createThrowawayCertificates } from './throwaway-certificates.js';

// `node dist/demo/write-certificates.js DIRECTORY`: the demo's certificates, for docker-compose.yml. They are valid for
// a day and written again at each start.
const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: node dist/demo/write-certificates.js DIRECTORY');
await mkdir(directory, { recursive: true });
await createThrowawayCertificates(directory);
process.stdout.write(`certificates in ${join(directory, '/')}\n`);
