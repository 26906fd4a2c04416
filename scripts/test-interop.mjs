// `npm run test:interop`: installs, builds, and runs the Go programs of test/interop against each other and against
// grpc-js, through the built proxy. With further arguments `go test` alone, which takes them:
// `npm run test:interop -- -run Sidechannel`.
import { goTest, requireGo } from './go-test.mjs';
import { installAndBuild, runTool } from './install.mjs';

requireGo('test:interop');
installAndBuild();
const args = process.argv.slice(2);
if (args.length === 0) runTool('vitest/vitest.mjs', ['run', '--config', 'test/interop/vitest.config.ts']);
goTest('interop', args);
