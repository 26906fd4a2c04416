// `npm test`: installs, builds, checks and runs all unit and end-to-end tests. Further arguments go to vitest;
// --no-check leaves the check out, --coverage counts what the tests and the programs that they start have run.
import { installAndBuild, run, runTool } from './install.mjs';

const args = process.argv.slice(2);
const own = new Set(['--no-check']);
installAndBuild();
if (!args.includes('--no-check')) run(process.execPath, ['scripts/check.mjs']);
runTool('vitest/vitest.mjs', ['run', ...args.filter((argument) => !own.has(argument))]);
