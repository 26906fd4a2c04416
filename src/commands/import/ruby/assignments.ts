import { MAX_RUBY_KEYS } from '../../../limits.js';
import { unread, type Setting, type Unread } from '../setting.js';
import { readArguments, readLiteral } from './literal.js';
import type { Statement } from './statements.js';
import { isMark, isWord, type Token } from './ruby-token.js';

/** The assignments of a program, as far as they can be determined without running it. */
export interface Assigned {
  /** `gitaly['configuration']['tls']` is at `gitaly`, `configuration`, `tls`. */
  readonly root: Setting;
  /** Statements that may set any setting, such as reading another file. */
  readonly unread: readonly Unread[];
}

type Names = readonly string[];

/** The target of an assignment: `['a', 'b']` for `a['b']`. */
interface Target {
  readonly path: Names;
  /** The index of the token after it. */
  readonly next: number;
}

const ASSIGNING = ['=', '||=', '&&=', '+=', '<<', '|='];
/** Methods that run another file or a text. */
const INCLUDING = ['from_file', 'load', 'eval', 'instance_eval', 'require', 'require_relative'];

/**
 * Collects the assignments to some hashes, and the calls of some methods. The last one wins. A computed or conditional
 * one makes the value unknown, whatever it was before.
 *
 * @param roots - the names of the hashes.
 * @param methods - the names of methods with a hash as argument.
 */
export function assignmentsIn(
  statements: readonly Statement[],
  roots: readonly string[],
  methods: readonly string[],
): Assigned {
  const tree = new Tree();
  const notes: Unread[] = [];
  for (const { tokens, hasBlock } of statements) {
    const read = readStatement(tokens, roots, methods);
    if (read !== undefined) tree.set(read.path, read.value);
    for (const [index, token] of tokens.entries()) {
      if (read !== undefined && index < read.next) continue;
      for (const hidden of changesAt(tokens, index, roots, methods))
        tree.set(
          hidden.path,
          unread(hasBlock ? 'it is set under a condition or in a loop' : COMPUTED, token.line),
        );
      if (token.type === 'word' && isIncluding(tokens, index))
        notes.push({
          key: token.text,
          line: token.line,
          reason: 'it may set any setting: import the file that it reads as well',
        });
    }
  }
  return { root: tree.setting(), unread: notes };
}

/** Reads a statement that is an assignment or the call of a method; `undefined` for any other. */
function readStatement(
  tokens: readonly Token[],
  roots: readonly string[],
  methods: readonly string[],
): (Target & { readonly value: Setting }) | undefined {
  const [first] = tokens;
  if (first?.type === 'word' && methods.includes(first.text))
    return { path: [first.text], next: 1, value: readArguments(tokens.slice(1)) };
  const target = targetAt(tokens, 0, roots);
  if (target === undefined || !isMark(tokens[target.next], '=')) return undefined;
  return { ...target, value: readLiteral(tokens.slice(target.next + 1)) };
}

const COMPUTED = 'it is changed by a Ruby expression';

function isIncluding(tokens: readonly Token[], index: number): boolean {
  return isWord(tokens[index], ...INCLUDING) && !isMark(tokens[index - 1], '.', '&.', '::');
}

/** The settings that the program may change at a token, in a way that is not analysed. */
function changesAt(
  tokens: readonly Token[],
  index: number,
  roots: readonly string[],
  methods: readonly string[],
): Target[] {
  const token = tokens[index];
  if (isMark(tokens[index - 1], '.', '&.', '::')) return [];
  if (token?.type === 'word' && methods.includes(token.text))
    return [{ path: [token.text], next: index + 1 }];
  const target = targetAt(tokens, index, roots);
  if (target === undefined) return [];
  const next = tokens[target.next];
  // A method may change its receiver; a computed index may be any; a comma may be part of `a, b = 1, 2`.
  return isMark(next, ...ASSIGNING, '.', '&.', '[', ',') || target.path.length === 1 ? [target] : [];
}

function targetAt(tokens: readonly Token[], index: number, roots: readonly string[]): Target | undefined {
  const root = tokens[index];
  if (root?.type !== 'word' || !roots.includes(root.text)) return undefined;
  const path = [root.text];
  let next = index + 1;
  while (path.length < MAX_RUBY_KEYS) {
    const key = tokens[next + 1];
    if (!isMark(tokens[next], '[') || key?.type !== 'text' || !isMark(tokens[next + 2], ']')) break;
    path.push(key.value);
    next += 3;
  }
  return { path, next };
}

/** The assigned settings. */
class Tree {
  #root: Setting = { kind: 'map', entries: new Map() };

  set(path: Names, value: Setting): void {
    this.#root = replaced(this.#root, path, value);
  }

  setting(): Setting {
    return this.#root;
  }
}

function replaced(here: Setting | undefined, path: Names, value: Setting): Setting {
  const [name, ...rest] = path;
  if (name === undefined) return value;
  // Everything below an unknown value stays unknown, because the unknown value may have been changed as a whole.
  if (here?.kind === 'unread') return here;
  const entries = new Map(here?.kind === 'map' ? here.entries : []);
  entries.set(name, replaced(entries.get(name), rest, value));
  return { kind: 'map', entries, ...(here?.line === undefined ? {} : { line: here.line }) };
}
