// `npm run test:interop`: installs, builds, and runs the Go programs of test/interop against the built proxy.
// Further arguments go to `go test`: `npm run test:interop -- -run Sidechannel`.
import { goTest, requireGo } from './go-test.mjs';
import { installAndBuild } from './install.mjs';

requireGo('test:interop');
installAndBuild();
goTest('interop', process.argv.slice(2));
