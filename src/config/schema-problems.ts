import * as z from 'zod';

import type { KeyPath, Problem } from './model.js';
import { nearest } from './nearest.js';
import { formatKey, isScalar } from './problem.js';
import { draftSchema, settingsSchema, type Draft } from './schema.js';

/** The result of validating a file against the schema. */
interface Shape {
  readonly problems: readonly Problem[];
  /** The valid parts. */
  readonly draft: Draft;
  /** Whether a problem with a key, or with one above it, has already been reported, so that its absence from the draft means nothing. */
  readonly isBroken: (key: KeyPath) => boolean;
}

/**
 * Validates each value on its own and reports the expected form of invalid ones.
 *
 * @param content - the map that was read from the file.
 */
export function checkShape(content: object): Shape {
  const issues = settingsSchema.safeParse(content).error?.issues ?? [];
  const broken = new KeyTree<true>();
  const removed = new KeyTree<Removed>();
  const problems: Problem[] = [];
  for (const issue of issues) {
    if (issue.code !== 'unrecognized_keys') continue;
    const path = keyPath(issue.path);
    for (const name of issue.keys) {
      const { problem, meant } = unknownKey(path, name);
      problems.push(problem);
      // A misspelt key is reported as unknown, so it is not also reported as missing.
      if (meant !== undefined) broken.set([...path, meant], true);
      removed.set([...path, name], 'key');
    }
  }
  for (const issue of issues) {
    if (issue.code === 'unrecognized_keys') continue;
    const path = keyPath(issue.path);
    const value = valueAt(content, path);
    removed.set(path, 'value');
    if (value === undefined && broken.get(path)) continue;
    broken.set(path, true);
    problems.push({
      severity: 'error',
      key: path,
      message: wording(issue, path, value),
      ...(isScalar(value) && !isSecret(value) ? { value } : {}),
    });
  }
  const draft = draftSchema.parse(without(content, removed));
  return { problems, draft, isBroken: (key) => broken.covers(key) };
}

function keyPath(path: readonly PropertyKey[]): KeyPath {
  return path.map((part) => (typeof part === 'number' ? part : String(part)));
}

/** Whether a value may contain a password, which must not be logged. Addresses with a user and a password are refused. */
function isSecret(value: unknown): boolean {
  return typeof value === 'string' && value.includes('@');
}

function wording(issue: z.core.$ZodIssue, path: KeyPath, value: unknown): string {
  if (issue.code === 'custom') return issue.message;
  const schema = schemaAt(path);
  const expected = expectation(issue, schema);
  if (value === undefined) return `missing: ${expected}`;
  if (value === null) return `the key has no value: ${expected}`;
  if (issue.code === 'invalid_value' && typeof value === 'string') {
    const meant = nearest(value, issue.values.map(String));
    return meant === undefined ? expected : `${expected}; did you mean ${JSON.stringify(meant)}?`;
  }
  return expected;
}

function expectation(issue: z.core.$ZodIssue, schema: z.core.$ZodType | undefined): string {
  if (issue.code === 'too_small' && issue.origin === 'array') return 'expected at least one entry';
  const example = issue.code === 'invalid_type' ? exampleOf(schema) : undefined;
  const such = example === undefined ? '' : ` such as ${JSON.stringify(example)}`;
  return `expected ${kindOf(schema)}${such}`;
}

/** Describes the values that a schema accepts. */
function kindOf(schema: z.core.$ZodType | undefined): string {
  return list(alternatives(schema));
}

function alternatives(schema: z.core.$ZodType | undefined): string[] {
  if (schema instanceof z.ZodEnum) return schema.options.map((value) => JSON.stringify(value));
  if (schema instanceof z.ZodLiteral) return [...schema.values].map((value) => JSON.stringify(value));
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(alternatives);
  if (schema instanceof z.ZodBoolean) return ['true', 'false'];
  return [singleKind(schema)];
}

function singleKind(schema: z.core.$ZodType | undefined): string {
  if (schema instanceof z.ZodArray)
    return schema.element instanceof z.ZodObject
      ? `a list, each entry with the keys ${keysOf(schema.element)}`
      : `a list such as ${JSON.stringify([exampleOf(schema.element)])}`;
  if (schema instanceof z.ZodObject) return `a map with the keys ${keysOf(schema)}`;
  if (schema instanceof z.ZodRecord) return 'a map';
  if (schema instanceof z.ZodNumber) return numberKind(schema);
  return 'a string';
}

function numberKind({ format, minValue, maxValue }: z.ZodNumber): string {
  const kind = format === 'safeint' ? 'a whole number' : 'a number';
  const isBound = (value: number | null): value is number =>
    value !== null && Math.abs(value) < Number.MAX_SAFE_INTEGER;
  if (isBound(minValue) && isBound(maxValue)) return `${kind} from ${minValue} to ${maxValue}`;
  if (isBound(minValue)) return `${kind} of at least ${minValue}`;
  return isBound(maxValue) ? `${kind} of at most ${maxValue}` : kind;
}

function unknownKey(path: KeyPath, name: string): { problem: Problem; meant: string | undefined } {
  const schema = schemaAt(path);
  const shape = schema instanceof z.ZodObject ? shapeOf(schema) : {};
  const home = Object.keys(shape).find((key) => {
    const inner = unwrap(shape[key]);
    return inner instanceof z.ZodObject && Object.hasOwn(inner.shape, name);
  });
  const isTopLevel = Object.hasOwn(settingsSchema.shape, name);
  // A key that is right elsewhere is not a misspelt one.
  const meant = home === undefined && !isTopLevel ? nearest(name, Object.keys(shape)) : undefined;
  const place = path.length === 0 ? 'the top level' : `\`${formatKey(path)}\``;
  let hint = `the keys of ${place} are ${Object.keys(shape).map(tick).join(', ')}`;
  if (meant !== undefined) hint = `did you mean ${tick(meant)}?`;
  else if (home !== undefined) hint = `it belongs under ${tick(home)}`;
  else if (isTopLevel) hint = 'it belongs at the top level of the file';
  const problem: Problem = {
    severity: 'error',
    key: [...path, name],
    message: `unknown key ${tick(name)}; ${hint}`,
  };
  return { problem, meant };
}

function tick(name: string): string {
  return `\`${name}\``;
}

function keysOf(schema: z.ZodObject): string {
  return Object.keys(schema.shape).map(tick).join(', ');
}

function list(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1) ?? ''}`;
}

function exampleOf(schema: z.core.$ZodType | undefined): unknown {
  const examples = schema instanceof z.ZodType ? schema.meta()?.['examples'] : undefined;
  return Array.isArray(examples) ? (examples as unknown[])[0] : undefined;
}

/** The schema of the value at a path. */
function schemaAt(path: KeyPath): z.core.$ZodType | undefined {
  let schema: z.core.$ZodType | undefined = settingsSchema;
  for (const part of path) {
    if (schema instanceof z.ZodArray) schema = schema.element;
    else if (schema instanceof z.ZodObject) schema = shapeOf(schema)[part];
    else if (schema instanceof z.ZodRecord) schema = schema.valueType;
    else return undefined;
    schema = unwrap(schema);
  }
  return schema;
}

function shapeOf(schema: z.ZodObject): Readonly<Record<string, z.core.$ZodType | undefined>> {
  return schema.shape;
}

function unwrap(schema: z.core.$ZodType | undefined): z.core.$ZodType | undefined {
  return schema instanceof z.ZodOptional ? schema.unwrap() : schema;
}

function valueAt(content: unknown, path: KeyPath): unknown {
  let value = content;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = Reflect.get(value, part);
  }
  return value;
}

/** The part that is removed: only the value, so that a map keeps its key, or also the key. */
type Removed = 'key' | 'value';

/** A copy without the removed parts; an array keeps its indices. Unaffected parts are shared. */
function without(content: unknown, removed: KeyTree<Removed> | undefined): unknown {
  if (!removed) return content;
  if (removed.value !== undefined || typeof content !== 'object' || content === null) return undefined;
  if (Array.isArray(content)) {
    const items: unknown[] = content;
    return items.map((item, index) => without(item, removed.at(index)));
  }
  const entries = Object.entries(content).flatMap(([name, value]: [string, unknown]): [string, unknown][] => {
    const below = removed.at(name);
    return below?.value === 'key' ? [] : [[name, without(value, below)]];
  });
  return Object.fromEntries(entries);
}

/** Values by key path. The cost of a lookup depends only on the length of the path. */
class KeyTree<T> {
  value: T | undefined;
  readonly #below = new Map<string | number, KeyTree<T>>();

  set(path: KeyPath, value: T): void {
    this.#make(path).value = value;
  }

  get(path: KeyPath): T | undefined {
    return [...this.#along(path)].at(path.length)?.value;
  }

  /** Whether a path, or a prefix of it, has a value. */
  covers(path: KeyPath): boolean {
    for (const { value } of this.#along(path)) if (value !== undefined) return true;
    return false;
  }

  /** The part of the tree below a key. */
  at(part: string | number): KeyTree<T> | undefined {
    return this.#below.get(part);
  }

  #make([part, ...rest]: KeyPath): KeyTree<T> {
    if (part === undefined) return this;
    let next = this.#below.get(part);
    if (!next) this.#below.set(part, (next = new KeyTree<T>()));
    return next.#make(rest);
  }

  /** The root, and the existing nodes along the path. */
  *#along(path: KeyPath): Generator<KeyTree<T>> {
    yield this;
    const [part, ...rest] = path;
    const next = part === undefined ? undefined : this.#below.get(part);
    if (next) yield* next.#along(rest);
  }
}
