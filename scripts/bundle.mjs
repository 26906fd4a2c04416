// Bundles the program with esbuild. Each command is a file in dist/, and so is each set of modules that several commands
// share: a process loads only the code of its command. The packages are included, so the program runs without node_modules.
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import * as esbuild from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');

/**
 * The programs: their paths in dist/, which users know, and in src/.
 * @type {Readonly<Record<string, string>>}
 */
const PROGRAMS = {
  cli: 'cli',
  'admin/health-check': 'admin/health-check',
  'demo/serve-backend': 'commands/demo/serve-backend',
  'demo/write-certificates': 'commands/demo/write-certificates',
};

/**
 * CommonJS packages call `require` for modules of Node. An ES module has no `require`, so the process provides the module.
 * @type {esbuild.Plugin}
 */
const requiredNodeModules = {
  name: 'required Node modules',
  setup(build) {
    build.onResolve({ filter: /^(node:)?[a-z_0-9/]+$/ }, ({ path, kind }) =>
      kind === 'require-call' && process.getBuiltinModule(path) !== undefined
        ? { path: path.replace(/^node:/, ''), namespace: 'node' }
        : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: 'node' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

/** @type {esbuild.BuildOptions & { write: false, metafile: true }} */
const OPTIONS = {
  absWorkingDir: root,
  entryPoints: Object.entries(PROGRAMS).map(([out, path]) => ({ in: `src/${path}.ts`, out })),
  outdir: 'dist',
  // In the same folder as cli.js: `../package.json` is found from src/ and from here (src/version.ts).
  chunkNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  // Read by src/stack.ts when a fault is logged. They do not contain the sources themselves.
  sourcemap: 'linked',
  sourcesContent: false,
  plugins: [requiredNodeModules],
  logLevel: 'warning',
  metafile: true,
  write: false,
};

/** Builds dist/. */
export async function bundle() {
  writeBuild(await esbuild.build(OPTIONS));
}

/** Builds dist/ again on each change. */
export async function bundleOnChange() {
  /** @type {esbuild.Plugin} */
  const write = {
    name: 'write',
    setup: ({ onEnd }) =>
      onEnd((result) => {
        if (result.errors.length === 0) writeBuild(result);
      }),
  };
  const context = await esbuild.context({ ...OPTIONS, plugins: [requiredNodeModules, write] });
  await context.watch();
}

/**
 * Imports a module of src/, which the oldest supported Node cannot load as it is.
 * @param {string} path
 */
export async function importSource(path) {
  const outfile = join(root, '.cache', path.replace(/\.ts$/, '.mjs'));
  const { outdir, chunkNames, ...options } = OPTIONS;
  await esbuild.build({ ...options, entryPoints: [path], splitting: false, outfile, write: true });
  return import(pathToFileURL(outfile).href);
}

/**
 * Writes the files that have changed. A program may start at any moment, so files that others import are written first, and
 * files of earlier builds are removed last.
 * @param {esbuild.BuildResult<{ write: false, metafile: true }>} result
 */
function writeBuild({ outputFiles, metafile }) {
  const programs = new Set(Object.keys(PROGRAMS).map((name) => join(dist, `${name}.js`)));
  const licences = { path: join(dist, 'LICENSES.txt'), contents: Buffer.from(licencesOf(metafile)) };
  const files = [licences, ...outputFiles].sort(
    (one, other) => Number(programs.has(one.path)) - Number(programs.has(other.path)),
  );
  for (const { path, contents } of files) {
    if (existsSync(path) && readFileSync(path).equals(contents)) continue;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, contents);
  }
  chmodSync(join(dist, 'cli.js'), 0o755);
  const paths = files.map(({ path }) => path);
  for (const name of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    const path = join(dist, name);
    const isInUse = paths.some((written) => written === path || written.startsWith(`${path}/`));
    if (!isInUse) rmSync(path, { recursive: true, force: true });
  }
}

/**
 * The licences of the packages that the program includes. They require that their text is distributed with the program.
 * @param {esbuild.Metafile} metafile
 */
function licencesOf({ outputs }) {
  const packages = new Set();
  for (const { inputs } of Object.values(outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
      const [folder] = /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path) ?? [];
      if (folder !== undefined && bytesInOutput > 0) packages.add(folder);
    }
  }
  const texts = [...packages].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    const file = readdirSync(join(root, folder)).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
    const text = file === undefined ? '' : `\n\n${readFileSync(join(root, folder, file), 'utf8').trim()}`;
    return `${name} ${version} (${license})${text}\n`;
  });
  return `This program includes the following packages.\n\n${texts.join(`\n${'-'.repeat(80)}\n\n`)}`;
}
