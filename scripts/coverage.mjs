// What the tests have run of src/: in vitest's own processes, which it measures itself, and in the programs that the
// end-to-end tests start, for which V8 writes its counts to a directory (NODE_V8_COVERAGE).
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const distUrl = pathToFileURL(join(root, 'dist/')).href;

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** Where each line of compiled code begins, by character: the offset of its first character that is no space. */
function lineBeginnings(code) {
  const beginnings = [];
  let offset = 0;
  for (const line of code.split('\n')) {
    const column = line.search(/\S/);
    if (column >= 0) beginnings.push({ line: beginnings.length, column, offset: offset + column });
    else beginnings.push(undefined);
    offset += line.length + 1;
  }
  return beginnings.filter((beginning) => beginning !== undefined);
}

/** How often V8 saw each line run. The count of a line is that of the innermost range around it, which comes last. */
function countsOf(functions, beginnings) {
  const counts = new Array(beginnings.length).fill(0);
  const ranges = functions
    .flatMap((one) => one.ranges)
    .sort((one, other) => one.startOffset - other.startOffset || other.endOffset - one.endOffset);
  let first = 0;
  for (const { startOffset, endOffset, count } of ranges) {
    while (first < beginnings.length && beginnings[first].offset < startOffset) first += 1;
    for (let index = first; index < beginnings.length && beginnings[index].offset < endOffset; index += 1)
      counts[index] = count;
  }
  return counts;
}

/** The lines of src/ that some started program has run: absolute path to line numbers from 1. */
function linesRunByPrograms(directory) {
  const compiled = new Map();
  const run = new Map();
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    for (const { url, functions } of readJson(join(directory, name)).result) {
      if (!url.startsWith(distUrl)) continue;
      const path = fileURLToPath(url);
      if (!compiled.has(path)) {
        compiled.set(path, {
          map: new SourceMap(readJson(`${path}.map`)),
          beginnings: lineBeginnings(readFileSync(path, 'utf8')),
        });
      }
      const { map, beginnings } = compiled.get(path);
      const counts = countsOf(functions, beginnings);
      for (const [index, { line, column }] of beginnings.entries()) {
        if (counts[index] === 0) continue;
        const { originalSource, originalLine } = map.findEntry(line, column);
        if (originalSource === undefined) continue;
        const source = resolve(dirname(path), originalSource);
        if (!run.has(source)) run.set(source, new Set());
        run.get(source).add(originalLine + 1);
      }
    }
  }
  return run;
}

/** `3, 7-9` */
function ranges(lines) {
  const spans = [];
  for (const line of lines) {
    const last = spans.at(-1);
    if (last && line <= last[1] + 1) last[1] = line;
    else spans.push([line, line]);
  }
  return spans.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}

/**
 * Prints, for each file of src/, how many of its statements were run and the lines of those that were not.
 * @param own vitest's report (`coverage-final.json`, Istanbul's format)
 * @param programs the directory with V8's counts of the started programs
 */
export function reportCoverage(own, programs) {
  const run = linesRunByPrograms(programs);
  let allStatements = 0;
  let allRun = 0;
  const rows = [];
  for (const { path, statementMap, s: counts } of Object.values(readJson(own))) {
    if (!path.startsWith(join(root, 'src'))) continue;
    const lines = run.get(path);
    const statements = Object.entries(statementMap);
    const missing = statements
      .filter(([id, { start }]) => counts[id] === 0 && !lines?.has(start.line))
      .map(([, { start }]) => start.line);
    allStatements += statements.length;
    allRun += statements.length - missing.length;
    const percent = statements.length === 0 ? 100 : (1 - missing.length / statements.length) * 100;
    rows.push([relative(root, path), percent, ranges([...new Set(missing)].sort((a, b) => a - b))]);
  }
  rows.sort(([one], [other]) => (one < other ? -1 : 1));
  const row = (name, percent, lines) => `${name.padEnd(44)} ${percent.toFixed(1).padStart(5)} %  ${lines}`;
  for (const [name, percent, lines] of rows) console.log(row(name, percent, lines));
  console.log(row('all statements', (allRun / allStatements) * 100, `${allRun} of ${allStatements}`));
}
