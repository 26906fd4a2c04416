// `npm run dev`: runs the demo and restarts it on each change; reports type errors.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { installAndBuild } from './install.mjs';

installAndBuild();
const { bundleOnChange } = await import('./bundle.mjs');
await bundleOnChange();
const root = fileURLToPath(new URL('..', import.meta.url));
/** @type {import('node:child_process').SpawnOptions} */
const options = { cwd: root, stdio: 'inherit' };
const children = [
  spawn(
    process.execPath,
    ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json', '--watch', '--preserveWatchOutput'],
    options,
  ),
  spawn(process.execPath, ['--watch-path=dist', '--watch-preserve-output', 'dist/cli.js', 'demo'], options),
];
const end = () => {
  for (const child of children) child.kill('SIGTERM');
  process.exit();
};
process.on('SIGINT', end);
process.on('SIGTERM', end);
