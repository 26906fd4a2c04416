import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from 'yaml';
import type { KeyPath, Problem } from './model.js';
import type { Locate } from './problem.js';

/** An honest file repeats a few paths by anchors; a thousandfold expansion is an accident or an attack. */
const MAX_ALIASES = 100;

/** What to do about some errors of the parser, by its code. */
const ADVICE: Readonly<Record<string, string>> = {
  BAD_ALIAS: ' (a text that begins with * is written in quotes, for example "*.eu.internal")',
};

export interface YamlFile {
  /** The content as plain values; `undefined` where the file is no YAML. */
  readonly content: unknown;
  readonly problems: readonly Problem[];
  readonly locate: Locate;
}

/**
 * Reads YAML 1.2. Never throws: syntax errors and keys written twice are problems with their line.
 *
 * @param merge - whether `<<` merges another map, as in YAML 1.1, which Ruby reads.
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
      uniqueKeys: true,
      merge,
      logLevel: 'silent',
    });
  } catch (error) {
    // Nesting thousands of levels deep exhausts the parser's stack.
    refuse(`the file cannot be read as YAML: ${reasonOf(error)}`);
    return { content: undefined, problems, locate: () => undefined };
  }
  const locate: Locate = (key) => {
    const offset = offsetOf(document, key);
    return offset === undefined ? undefined : lineAt(offset);
  };
  let broken = false;
  for (const fault of [...document.errors, ...document.warnings]) {
    const line = lineAt(fault.pos[0]);
    if (fault.code === 'DUPLICATE_KEY') {
      const key = keyAt(document, fault.pos[0]) ?? [];
      problems.push({
        severity: 'error',
        key,
        message: 'the key is written twice here: keep one of them',
        line,
      });
    } else {
      broken = true;
      refuse(`not valid YAML: ${fault.message}${ADVICE[fault.code] ?? ''}`, line);
    }
  }
  if (broken) return { content: undefined, problems, locate };
  try {
    return { content: document.toJS({ maxAliasCount: MAX_ALIASES }), problems, locate };
  } catch (error) {
    refuse(`the file cannot be read as YAML: ${reasonOf(error)}`);
    return { content: undefined, problems, locate };
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Where a key stands, as an offset into the text; its nearest ancestor's where it is absent. */
function offsetOf(document: Document, key: KeyPath): number | undefined {
  let node = resolved(document.contents, document);
  let offset = node?.range?.[0];
  for (const part of key) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(part));
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

/** The path of the key that starts at an offset. */
function keyAt(document: Document, offset: number): KeyPath | undefined {
  const search = (node: unknown, path: KeyPath): KeyPath | undefined => {
    if (isMap(node)) {
      for (const { key, value } of node.items) {
        if (!isScalar(key)) continue;
        const here = [...path, String(key.value)];
        const found = key.range?.[0] === offset ? here : search(value, here);
        if (found !== undefined) return found;
      }
    } else if (isSeq(node)) {
      for (const [index, item] of node.items.entries()) {
        const found = search(item, [...path, index]);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  };
  return search(document.contents, []);
}

function resolved(node: unknown, document: Document): Node | undefined {
  if (isAlias(node)) return node.resolve(document);
  return isScalar(node) || isMap(node) || isSeq(node) ? node : undefined;
}
