// `npm run test:gitaly`: builds a real Gitaly from its Go module, once, and runs test/gitaly against it and the built
// proxy. Further arguments go to `go test`: `npm run test:gitaly -- -run Gitaly/gate`.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { goTest, requireGo } from './go-test.mjs';
import { installAndBuild, run } from './install.mjs';

/** The last of version 15, which is content with the git of Debian 12. */
const MODULE = 'gitlab.com/gitlab-org/gitaly/v15@v15.11.13';

/** What of it the tests run. */
const PROGRAMS = ['gitaly', 'praefect', 'gitaly-ssh', 'gitaly-hooks', 'gitaly-lfs-smudge', 'gitaly-git2go'];

const cache = fileURLToPath(new URL('../.cache/gitaly', import.meta.url));
const version = MODULE.replace(/^.*@/, '');
/** Named after how they are built, so that those of another way are built again. */
const binaries = join(cache, `${version}-named`);

/** What Gitaly's own Makefile says, too: ServerInfo tells it. */
const LDFLAGS = `-X gitlab.com/gitlab-org/gitaly/v15/internal/version.version=${version.slice(1)}`;

/**
 * Gitaly embeds its helpers from its own tree, and the module cache cannot be written: it is built from a copy. The
 * helper for merges needs libgit2, and no test merges: another program stands in its place and says so.
 */
function buildGitaly() {
  const download = spawnSync('go', ['mod', 'download', '-json', MODULE], { cwd: cache, encoding: 'utf8' });
  if (download.status !== 0) {
    console.error(`go mod download ${MODULE}: ${download.stderr}${download.stdout}`);
    process.exit(1);
  }
  const tree = join(cache, 'tree');
  rmSync(tree, { recursive: true, force: true });
  run('cp', ['-R', JSON.parse(download.stdout).Dir, tree]);
  run('chmod', ['-R', 'u+w', tree]);
  const helpers = join(tree, '_build/bin');
  mkdirSync(helpers, { recursive: true });
  const build = (...commands) =>
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
  build('gitaly-hooks', 'gitaly-ssh', 'gitaly-lfs-smudge');
  writeFileSync(
    join(helpers, 'gitaly-git2go'),
    '#!/bin/sh\necho "gitaly-git2go was not built" >&2\nexit 1\n',
    {
      mode: 0o755,
    },
  );
  build('gitaly', 'praefect');
  // Whole or not at all: a build that was interrupted is begun again.
  const made = join(cache, 'made');
  rmSync(made, { recursive: true, force: true });
  mkdirSync(made);
  for (const name of PROGRAMS) copyFileSync(join(helpers, name), join(made, name));
  rmSync(tree, { recursive: true });
  rmSync(binaries, { recursive: true, force: true });
  renameSync(made, binaries);
}

requireGo('test:gitaly');
installAndBuild();
mkdirSync(cache, { recursive: true });
if (!PROGRAMS.every((name) => existsSync(join(binaries, name)))) {
  console.log(`building ${MODULE}, which takes some minutes the first time`);
  buildGitaly();
}
goTest('gitaly', process.argv.slice(2), { GITALY_BINARIES: binaries });
