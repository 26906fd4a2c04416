// The lines of src/ that the tests have run: in vitest's own processes, which it measures itself, and in the programs that the
// end-to-end tests start, for which V8 writes its counts to a directory (NODE_V8_COVERAGE).
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const distUrl = pathToFileURL(join(root, 'dist/')).href;

/** @typedef {{ startOffset: number, endOffset: number, count: number }} CountedRange */
/** @typedef {{ ranges: CountedRange[] }} CountedFunction */
/** @typedef {{ result: { url: string, functions: CountedFunction[] }[] }} ProgramCounts V8's format */
/** @typedef {{ path: string, statementMap: Record<string, { start: { line: number } }>, s: Record<string, number> }} FileCounts */
/** @typedef {{ line: number, column: number, offset: number }} LineBeginning */

/**
 * @param {string} path
 * @returns {unknown}
 */
function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

/**
 * The offset of the first non-space character of each line of compiled code that has one.
 * @param {string} code
 */
function lineBeginnings(code) {
  /** @type {LineBeginning[]} */
  const beginnings = [];
  let number = 0;
  let offset = 0;
  for (const line of code.split('\n')) {
    const column = line.search(/\S/);
    if (column >= 0) beginnings.push({ line: number, column, offset: offset + column });
    number += 1;
    offset += line.length + 1;
  }
  return beginnings;
}

/**
 * How often V8 saw each line run. The count of a line is that of the innermost range around it, which comes last.
 * @param {readonly CountedFunction[]} functions
 * @param {readonly LineBeginning[]} beginnings
 * @returns {number[]}
 */
function countsOf(functions, beginnings) {
  /** @type {number[]} */
  const counts = Array.from({ length: beginnings.length }, () => 0);
  const ranges = functions
    .flatMap((one) => one.ranges)
    .sort((one, other) => one.startOffset - other.startOffset || other.endOffset - one.endOffset);
  let first = 0;
  for (const { startOffset, endOffset, count } of ranges) {
    while ((beginnings[first]?.offset ?? Infinity) < startOffset) first += 1;
    for (let index = first; (beginnings[index]?.offset ?? Infinity) < endOffset; index += 1)
      counts[index] = count;
  }
  return counts;
}

/**
 * The lines of src/ that the started programs have run: absolute path to line numbers from 1.
 * @param {string} directory
 */
function linesRunByPrograms(directory) {
  /** @type {Map<string, { map: SourceMap, beginnings: LineBeginning[] }>} */
  const compiled = new Map();
  /** @type {Map<string, Set<number>>} */
  const run = new Map();
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    const { result } = /** @type {ProgramCounts} */ (readJson(join(directory, name)));
    for (const { url, functions } of result) {
      if (!url.startsWith(distUrl)) continue;
      const path = fileURLToPath(url);
      const code = compiled.get(path) ?? readCompiled(path);
      compiled.set(path, code);
      const { map, beginnings } = code;
      const counts = countsOf(functions, beginnings);
      for (const [index, { line, column }] of beginnings.entries()) {
        if (counts[index] === 0) continue;
        const entry = map.findEntry(line, column);
        if (!('originalSource' in entry)) continue;
        const source = resolve(dirname(path), entry.originalSource);
        const lines = run.get(source) ?? new Set();
        run.set(source, lines.add(entry.originalLine + 1));
      }
    }
  }
  return run;
}

/** @param {string} path */
function readCompiled(path) {
  const payload = /** @type {import('node:module').SourceMapPayload} */ (readJson(`${path}.map`));
  return { map: new SourceMap(payload), beginnings: lineBeginnings(readFileSync(path, 'utf8')) };
}

/**
 * `3, 7-9`
 * @param {readonly number[]} lines ascending
 */
function ranges(lines) {
  /** @type {[number, number][]} */
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
 * @param {string} own vitest's report (`coverage-final.json`, Istanbul's format)
 * @param {string} programs the directory with V8's counts of the started programs
 */
export function reportCoverage(own, programs) {
  const run = linesRunByPrograms(programs);
  let allStatements = 0;
  let allRun = 0;
  /** @type {[name: string, percent: number, lines: string][]} */
  const rows = [];
  const files = /** @type {Record<string, FileCounts>} */ (readJson(own));
  for (const { path, statementMap, s: counts } of Object.values(files)) {
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
  const row = (/** @type {string} */ name, /** @type {number} */ percent, /** @type {string} */ lines) =>
    `${name.padEnd(44)} ${percent.toFixed(1).padStart(5)} %  ${lines}`;
  for (const [name, percent, lines] of rows) console.log(row(name, percent, lines));
  console.log(row('all statements', (allRun / allStatements) * 100, `${allRun} of ${allStatements}`));
}
