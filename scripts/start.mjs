// `npm start`: installs, builds and runs the program, `demo` by default.
import { fileURLToPath } from 'node:url';

import { installAndBuild } from './install.mjs';

// During the build, too: by default SIGUSR1 opens Node's debugger. The program handles the signal itself.
process.on('SIGUSR1', () => undefined);
installAndBuild();
const args = process.argv.slice(2);
const cli = new URL('../dist/cli.js', import.meta.url);
// In this very process: signals go straight to the program.
process.argv = [process.execPath, fileURLToPath(cli), ...(args.length > 0 ? args : ['demo'])];
await import(cli.href);
