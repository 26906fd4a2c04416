// `npm test`: installs, builds, checks and runs all unit and end-to-end tests. Further arguments go to vitest;
// --no-check skips the check, --coverage reports the coverage of src/ by the tests and the programs that they start.
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { reportCoverage } from './coverage.mjs';
import { installAndBuild, run, runTool } from './install.mjs';

const args = process.argv.slice(2);
const coverage = args.includes('--coverage');
const forVitest = args.filter((argument) => argument !== '--no-check' && argument !== '--coverage');

installAndBuild();
if (!args.includes('--no-check')) run(process.execPath, ['scripts/check.mjs']);
if (coverage) {
  const directory = fileURLToPath(new URL('../coverage', import.meta.url));
  const programs = `${directory}/programs`;
  rmSync(directory, { recursive: true, force: true });
  // Vitest would empty its own directory, so the programs' counts lie beside it. They must not be taken from vitest's
  // workers as well: those measure themselves, and V8 has one counter for each script.
  runTool(
    'vitest/vitest.mjs',
    [
      'run',
      '--coverage.enabled',
      '--coverage.include=src/**/*.ts',
      '--coverage.reporter=json',
      '--coverage.reporter=html',
      `--coverage.reportsDirectory=${directory}/vitest`,
      ...forVitest,
    ],
    { PROGRAMS_V8_COVERAGE: programs },
  );
  reportCoverage(`${directory}/vitest/coverage-final.json`, programs);
} else {
  runTool('vitest/vitest.mjs', ['run', ...forVitest]);
}
