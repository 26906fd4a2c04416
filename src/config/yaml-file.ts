import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
  type Pair,
  type YAMLMap,
} from 'yaml';
import { MAX_YAML_ALIASES } from '../limits.js';
import type { KeyPath, Problem } from './model.js';
import type { Locate } from './problem.js';

/** The fixes for some errors of the parser, by error code. */
const ADVICE: Readonly<Record<string, string>> = {
  BAD_ALIAS: ' (a string that begins with * must be in quotes, for example "*.eu.internal")',
};

export interface YamlFile {
  /** The content as plain values; `undefined` if the file is not valid YAML. */
  readonly content: unknown;
  readonly problems: readonly Problem[];
  readonly locate: Locate;
}

/**
 * Parses YAML 1.2. Never throws: syntax errors and repeated keys are problems with a line.
 *
 * @param merge - whether `<<` merges another map, as in YAML 1.1, which Ruby uses.
 */
export function readYaml(text: string, { merge }: { readonly merge: boolean } = { merge: false }): YamlFile {
  const lines = new LineCounter();
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  const problems: Problem[] = [];
  const refuse = (message: string, line?: number): void => {
    problems.push({ severity: 'error', key: [], message, ...(line === undefined ? {} : { line }) });
  };
  let document: Document;
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      // This check compares each key with all others of its map; `repeatedKeys` does not.
      uniqueKeys: false,
      merge,
      logLevel: 'silent',
    });
  } catch (error) {
    // Thousands of nested levels exhaust the parser's stack.
    refuse(`the file cannot be read as YAML: ${reasonOf(error)}`);
    return { content: undefined, problems, locate: () => undefined };
  }
  const pairs = new PairIndex();
  const locate: Locate = (key) => {
    const offset = offsetOf(document, key, pairs);
    return offset === undefined ? undefined : lineAt(offset);
  };
  let broken = false;
  for (const fault of [...document.errors, ...document.warnings]) {
    broken = true;
    refuse(`not valid YAML: ${fault.message}${ADVICE[fault.code] ?? ''}`, lineAt(fault.pos[0]));
  }
  for (const { key, offset } of repeatedKeys(document)) {
    const message = 'the key is repeated: remove one of them';
    problems.push({ severity: 'error', key, message, line: lineAt(offset) });
  }
  if (broken) return { content: undefined, problems, locate };
  try {
    return { content: document.toJS({ maxAliasCount: MAX_YAML_ALIASES }), problems, locate };
  } catch (error) {
    refuse(`the file cannot be read as YAML: ${reasonOf(error)}`);
    return { content: undefined, problems, locate };
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The offset of a key in the text, or that of its nearest ancestor if it is absent. */
function offsetOf(document: Document, key: KeyPath, pairs: PairIndex): number | undefined {
  let node = resolved(document.contents, document);
  let offset = node?.range?.[0];
  for (const part of key) {
    if (isMap(node)) {
      const pair = pairs.find(node, String(part));
      if (pair === undefined) break;
      if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = resolved(pair.value, document);
    } else if (isSeq(node) && typeof part === 'number' && part < node.items.length) {
      const item = node.items[part];
      offset =
        isScalar(item) || isMap(item) || isSeq(item) || isAlias(item) ? (item.range?.[0] ?? offset) : offset;
      node = resolved(item, document);
    } else {
      break;
    }
  }
  return offset;
}

/** The pairs of maps by key; each map is read once. */
class PairIndex {
  readonly #maps = new WeakMap<YAMLMap, Map<string, Pair>>();

  /** The first pair with a key. */
  find(map: YAMLMap, key: string): Pair | undefined {
    let pairs = this.#maps.get(map);
    if (!pairs) {
      pairs = new Map();
      for (const pair of map.items) {
        const name = isScalar(pair.key) ? String(pair.key.value) : undefined;
        if (name !== undefined && !pairs.has(name)) pairs.set(name, pair);
      }
      this.#maps.set(map, pairs);
    }
    return pairs.get(key);
  }
}

/** The repeated keys of a map, with their offsets. */
function repeatedKeys(document: Document): { readonly key: KeyPath; readonly offset: number }[] {
  const found: { readonly key: KeyPath; readonly offset: number }[] = [];
  const left: { readonly node: unknown; readonly path: KeyPath }[] = [{ node: document.contents, path: [] }];
  for (let next = left.pop(); next; next = left.pop()) {
    const { node, path } = next;
    if (isSeq(node)) {
      for (const [index, item] of node.items.entries()) left.push({ node: item, path: [...path, index] });
    } else if (isMap(node)) {
      const names = new Set<unknown>();
      for (const { key, value } of node.items) {
        if (!isScalar(key)) continue;
        const here = [...path, String(key.value)];
        if (names.has(key.value)) found.push({ key: here, offset: key.range?.[0] ?? 0 });
        names.add(key.value);
        if (isMap(value) || isSeq(value)) left.push({ node: value, path: here });
      }
    }
  }
  return found.sort((one, other) => one.offset - other.offset);
}

function resolved(node: unknown, document: Document): Node | undefined {
  if (isAlias(node)) return node.resolve(document);
  return isScalar(node) || isMap(node) || isSeq(node) ? node : undefined;
}
