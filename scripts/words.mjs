// The words check: finds wording that readers stumble over, in the comments, strings and documents of the folders in
// CLEAN. `node scripts/words.mjs --count` counts it in the whole repository, by rule and by folder.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Folders and files without findings. This list must only grow. */
export const CLEAN = [
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'README.md',
  'SECURITY.md',
  'bench',
  'docs',
  'scripts',
  'soak/README.md',
  'soak/churn.mjs',
  'soak/client.mjs',
  'soak/crowds.mjs',
  'soak/hostile.mjs',
  'soak/pairs.mjs',
  'soak/program.mjs',
  'soak/run.mjs',
  'soak/slope.mjs',
  'soak/slow.mjs',
  'soak/support.mjs',
  'soak/toxic.mjs',
  'src',
  'test/admin',
  'test/config',
  'test/files',
  'test/gitaly-client',
  'test/http',
  'test/process',
  'test/serving',
  'test/telemetry',
  'test/tls',
  'test/upstream',
  'test/x509',
];

/** This file, whose examples are to be found. */
const OWN = 'scripts/words.mjs';

/** Everything that `--count` reads. */
const ALL = [
  'src',
  'docs',
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'bench',
  'scripts',
  'soak',
  'test',
];

/**
 * Names of protocols and contracts that no rule applies to.
 * @type {readonly RegExp[]}
 */
export const ALLOWED = [
  // Labels and reasons of metrics and logs, which users match.
  /\b(?:passed_limit|speaks_tls)\b/g,
  // A system user.
  /user = "nobody"/g,
];

/**
 * @typedef {object} Rule
 * @property {string} name
 * @property {RegExp} pattern
 * @property {string} write the better wording
 * @property {string} finds an example that the pattern finds
 * @property {string} leaves a similar sentence that it does not find
 */

/** @type {readonly Rule[]} */
export const RULES = [
  {
    name: 'tell, say',
    pattern: /\b(?:tell|tells|told|telling|say|says|said|saying)\b/i,
    write: 'log, report, print, notify, return, require',
    finds: 'The client is told why.',
    leaves: 'The log contains the reason.',
  },
  {
    name: 'speak',
    pattern: /\b(?:spoke|spoken|speak(?:s|ing)?)\b(?! (?:only )?(?:gRPC|HTTP|TLS|yamux|Ruby|PROXY))/i,
    write: 'send, use, configure',
    finds: 'a client that speaks first',
    leaves: 'the server speaks gRPC but is not Gitaly',
  },
  {
    name: 'persons for components',
    pattern:
      /\b(?:whoever|nobody|somebody|anybody|everybody|who (?:asks|comes|dials|waits|watches|connects))\b/i,
    write: 'the name of the component: the client, the load balancer, the caller',
    finds: 'while nobody reads the log',
    leaves: 'while the log is not being read',
  },
  {
    name: 'former and latter',
    pattern: /\bthe (?:former|latter)\b/i,
    write: 'the previous configuration; or repeat the noun',
    finds: 'the former state is served on',
    leaves: 'still serving the previous configuration',
  },
  {
    name: 'so many, so often',
    pattern: /\bso (?:many|often|much|long)\b(?! (?:that|as)\b)/i,
    write: 'N, burst of N, this number of',
    finds: 'at most so many at once',
    leaves: 'so many that memory would run out',
  },
  {
    name: 'goes on, stands, is gone',
    pattern:
      /\b(?:go(?:es)? on|went on|comes? to (?:pass|an end)|stand(?:s|ing)? still|(?:is|are|was|were|has|have) gone|(?:is|are|was) there[.,;:)])/i,
    write: 'continue, is kept; end; stall; closed, removed; exists',
    finds: 'Open connections go on.',
    leaves: 'Open connections are kept.',
  },
  {
    name: 'in force',
    pattern: /\b(?:put|puts|putting|is|are|comes?|came) (?:\w+ )?in(?:to)? force\b/i,
    write: 'apply, applied, in effect',
    finds: 'The configuration is put in force.',
    leaves: 'The configuration is applied.',
  },
  {
    name: 'negated noun',
    pattern:
      /\b(?:is|are|was|were|be) (?:no(?! (?:longer|more|less|better|worse|different|later|earlier|larger|other))\b (?!one\b)|none\b)/i,
    write: 'is not a …; is invalid',
    finds: 'what is no HTTP',
    leaves: 'The connection is no longer open.',
  },
  {
    name: 'headless clause',
    pattern: /(?:^|[.!?:] )(?:What|Who|Whom|Why|Where) (?!to\b)[a-z][^?]*$/,
    write: 'a noun as subject: "Lines that …", "Clients that …"',
    finds: 'What cannot leave in time is dropped.',
    leaves: 'What does an upgrade change?',
  },
  {
    name: 'fronted of',
    pattern: /(?:^|[.!?:;] )Of (?:a|an|the|what|all|these|those|each|it|which|its|one|several)\b/,
    write: 'the main clause first',
    finds: 'Of a file that configures several components, one is used.',
    leaves: 'It is one of the listeners.',
  },
  {
    name: 'a for per',
    pattern:
      /\b(?:(?:one|two|\d+) \w+ an? (?:call|connection|client|line|problem|file|frame|stream|request|second|minute|hour|day|worker)|(?:[KMG]iB|MB|bytes|ms|times|µs) an? (?:call|connection|client|frame|stream|request|second|minute|hour|day|worker))\b/i,
    write: 'per',
    finds: 'at most 1 MiB a connection',
    leaves: 'at most 1 MiB per connection',
  },
  {
    name: 'in time',
    pattern: /\b(?:not|never|cannot|could|n't)\b[^.;:]{0,40}\bin time\b|\boverdue\b/i,
    write: 'timed out after `timeouts.…`, within …',
    finds: 'It did not answer in time.',
    leaves: 'It timed out after timeouts.connect.',
  },
  {
    name: 'passed a limit',
    pattern: /\bpass(?:ed|es|ing)? (?:an?|the|its|any|that) (?:limit|bound)\b/i,
    write: 'exceeds, limit exceeded',
    finds: 'a client that passes a limit',
    leaves: 'a client that exceeds a limit',
  },
  {
    name: 'terms',
    pattern:
      /\b(?:farewell|cures?|turn(?:ed|s)? away|break(?:s|ing)? off|broken off|at (?:the|its) begin|the begin of)\b/i,
    write: 'close, drain; fix; refuse; reset, abort; start, beginning',
    finds: 'The connection is turned away.',
    leaves: 'The connection is refused at the beginning.',
  },
  {
    name: 'takes nothing',
    pattern: /\b(?:takes|reads|take|read) (?:nothing|no more)\b/i,
    write: 'stalled, not reading',
    finds: 'an upstream that takes nothing',
    leaves: 'an upstream that is not reading',
  },
];

/** @typedef {{ line: number, text: string }} Piece a comment, a string or a paragraph */
/** @typedef {{ line: number, rule: Rule, match: string }} Finding */

/**
 * What the rules find in one piece of prose.
 * @param {string} text
 * @returns {{ rule: Rule, match: string }[]}
 */
export function findingsIn(text) {
  const prose = ALLOWED.reduce((rest, allowed) => rest.replace(allowed, ''), text)
    .replace(/`[^`]*`/g, '`…`')
    .replace(/\s+/g, ' ')
    .trim();
  return sentencesOf(prose).flatMap((sentence) =>
    RULES.flatMap((rule) => {
      const match = rule.pattern.exec(sentence)?.[0];
      return match === undefined ? [] : [{ rule, match: match.slice(0, 60) }];
    }),
  );
}

/** @param {string} prose */
function sentencesOf(prose) {
  return prose.split(/(?<=[.!?])\s+(?=[A-Z`])/);
}

/**
 * The comments, and the strings and templates with at least two words, of a TypeScript or JavaScript file.
 * @param {string} path
 * @param {string} code
 * @returns {Piece[]}
 */
export function proseOfCode(path, code) {
  const source = ts.createSourceFile(path, code, ts.ScriptTarget.Latest, true);
  /** @type {Map<number, Piece>} by offset, since a comment can lead several nodes */
  const pieces = new Map();
  const add = (/** @type {number} */ offset, /** @type {string} */ text) => {
    pieces.set(offset, { line: source.getLineAndCharacterOfPosition(offset).line + 1, text });
  };
  const visit = (/** @type {ts.Node} */ node) => {
    const comments = [
      ...(ts.getLeadingCommentRanges(code, node.getFullStart()) ?? []),
      ...(ts.getTrailingCommentRanges(code, node.getEnd()) ?? []),
    ];
    for (const { pos, end } of comments) add(pos, withoutMarks(code.slice(pos, end)));
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return;
    const isText =
      ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node);
    if (isText && /\S \S/.test(node.text)) add(node.getStart(), node.text);
    node.getChildren().forEach(visit);
  };
  visit(source);
  return [...pieces.values()];
}

/**
 * A comment without its marks and JSDoc types.
 * @param {string} comment
 */
function withoutMarks(comment) {
  return comment
    .replace(/^\/\*+|\*+\/$/g, '')
    .replace(/^[ \t]*(?:\*|\/\/)[ \t]?/gm, '')
    .replace(/@\w+ (?:\{[^}]*\} )?(?:\[?[\w.]+\]? )?/g, '. ');
}

/**
 * The paragraphs and table cells of a Markdown file, without code.
 * @param {string} markdown
 * @returns {Piece[]}
 */
export function proseOfMarkdown(markdown) {
  const withoutCode = markdown.replace(/^```[\s\S]*?^```/gm, (block) => block.replace(/[^\n]/g, ''));
  /** @type {Piece[]} */
  const pieces = [];
  for (const [index, line] of withoutCode.split('\n').entries()) {
    const isNew = line.trim() === '' || /^\s*(?:[-*|#>]|\d+\.)/.test(line);
    const last = pieces.at(-1);
    if (isNew || last === undefined)
      for (const cell of line.split(' | '))
        pieces.push({ line: index + 1, text: cell.replace(/^[\s|#>*-]+/, '') });
    else last.text += ` ${line}`;
  }
  return pieces;
}

/**
 * @param {string} path from the root
 * @returns {Finding[]}
 */
function findingsOfFile(path) {
  const content = readFileSync(join(ROOT, path), 'utf8');
  const pieces = path.endsWith('.md') ? proseOfMarkdown(content) : proseOfCode(path, content);
  return pieces.flatMap(({ line, text }) => findingsIn(text).map((finding) => ({ line, ...finding })));
}

/**
 * @param {string} path a file or a folder, from the root
 * @returns {string[]}
 */
function filesUnder(path) {
  if (!statSync(join(ROOT, path)).isDirectory()) return [path];
  return readdirSync(join(ROOT, path), { withFileTypes: true }).flatMap((entry) => {
    const inside = `${path}/${entry.name}`;
    if (entry.isDirectory()) return filesUnder(inside);
    return /\.(?:ts|mjs|md)$/.test(entry.name) ? [inside] : [];
  });
}

/** Prints the number of findings by rule and by folder. */
function count() {
  /** @type {Map<string, number>} */
  const numbers = new Map();
  for (const path of ALL.flatMap(filesUnder).filter((each) => each !== OWN)) {
    const folder = path.split('/').slice(0, 2).join('/');
    for (const { rule } of findingsOfFile(path))
      for (const key of [`rule ${rule.name}`, folder, 'all']) numbers.set(key, (numbers.get(key) ?? 0) + 1);
  }
  for (const [key, number] of [...numbers].sort(([, one], [, other]) => other - one))
    console.log(`${String(number).padStart(5)}  ${key}`);
}

/**
 * @param {readonly string[]} paths
 * @returns {number} of findings, which are printed
 */
function check(paths) {
  let found = 0;
  for (const path of paths.flatMap(filesUnder).filter((each) => each !== OWN)) {
    for (const { line, rule, match } of findingsOfFile(path)) {
      found += 1;
      console.error(`${path}:${line}: "${match}" (${rule.name}): write ${rule.write}`);
    }
  }
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  if (args[0] === '--count') count();
  else process.exitCode = check(args.length > 0 ? args : CLEAN) > 0 ? 1 : 0;
}
