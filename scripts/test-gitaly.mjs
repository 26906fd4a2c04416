// `npm run test:gitaly`: builds a real Gitaly from its Go module, once, and runs test/gitaly against it and the built
// proxy. Further arguments go to `go test`: `npm run test:gitaly -- -run Gitaly/gate`. With `--build-only` it builds
// Gitaly and compiles the Go tests, and needs no node_modules.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { compileGoTests, goTest, requireGo } from './go-test.mjs';
import { installAndBuild, run } from './install.mjs';

/** The last version that works with the git of Debian 12. */
const MODULE = 'gitlab.com/gitlab-org/gitaly/v15@v15.11.13';

/** The programs of Gitaly that the tests run. */
const PROGRAMS = ['gitaly', 'praefect', 'gitaly-ssh', 'gitaly-hooks', 'gitaly-lfs-smudge', 'gitaly-git2go'];

const cache = fileURLToPath(new URL('../.cache/gitaly', import.meta.url));
const version = MODULE.replace(/^.*@/, '');
/** The name contains the kind of build, so that a change of it builds again. */
const binaries = join(cache, `${version}-named`);

/** As in Gitaly's own Makefile: ServerInfo returns it. */
const LDFLAGS = `-X gitlab.com/gitlab-org/gitaly/v15/internal/version.version=${version.slice(1)}`;

/**
 * Gitaly embeds its helpers from its own tree, and the module cache is read-only: it is built from a copy. The helper for
 * merges needs libgit2, and no test merges: a program that fails with a message replaces it.
 */
function buildGitaly() {
  const download = spawnSync('go', ['mod', 'download', '-json', MODULE], { cwd: cache, encoding: 'utf8' });
  if (download.status !== 0) {
    console.error(`go mod download ${MODULE}: ${download.stderr}${download.stdout}`);
    process.exit(1);
  }
  const tree = join(cache, 'tree');
  rmSync(tree, { recursive: true, force: true });
  /** @type {unknown} */
  const downloaded = JSON.parse(download.stdout);
  run('cp', ['-R', /** @type {{ Dir: string }} */ (downloaded).Dir, tree]);
  run('chmod', ['-R', 'u+w', tree]);
  const helpers = join(tree, '_build/bin');
  mkdirSync(helpers, { recursive: true });
  const build = (/** @type {readonly string[]} */ ...commands) => {
    run(
      'go',
      [
        'build',
        '-C',
        tree,
        '-ldflags',
        LDFLAGS,
        '-o',
        '_build/bin/',
        ...commands.map((name) => `./cmd/${name}`),
      ],
      { GOFLAGS: '-buildvcs=false' },
    );
  };
  build('gitaly-hooks', 'gitaly-ssh', 'gitaly-lfs-smudge');
  writeFileSync(
    join(helpers, 'gitaly-git2go'),
    '#!/bin/sh\necho "gitaly-git2go was not built" >&2\nexit 1\n',
    {
      mode: 0o755,
    },
  );
  build('gitaly', 'praefect');
  // By rename at the end: an interrupted build starts again.
  const made = join(cache, 'made');
  rmSync(made, { recursive: true, force: true });
  mkdirSync(made);
  for (const name of PROGRAMS) copyFileSync(join(helpers, name), join(made, name));
  rmSync(tree, { recursive: true });
  rmSync(binaries, { recursive: true, force: true });
  renameSync(made, binaries);
}

const args = process.argv.slice(2);
const isBuildOnly = args.includes('--build-only');
requireGo('test:gitaly');
if (!isBuildOnly) installAndBuild();
mkdirSync(cache, { recursive: true });
if (!PROGRAMS.every((name) => existsSync(join(binaries, name)))) {
  console.log(`building ${MODULE}, which takes some minutes the first time`);
  buildGitaly();
}
if (isBuildOnly) for (const folder of /** @type {const} */ (['gitaly', 'interop'])) compileGoTests(folder);
else goTest('gitaly', args, { GITALY_BINARIES: binaries });
