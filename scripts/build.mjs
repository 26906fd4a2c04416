// `npm run build`: checks the types, then bundles the program into dist/.
import { bundle } from './bundle.mjs';
import { runTool } from './install.mjs';

runTool('typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
await bundle();
