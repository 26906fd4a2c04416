/**
 * The content of a GitLab file in any language: scalars, maps and lists, with markers in place of values that could not
 * be read.
 */
export type Setting =
  | { readonly kind: 'scalar'; readonly value: string | number | boolean | null; readonly line?: number }
  | { readonly kind: 'map'; readonly entries: ReadonlyMap<string, Setting>; readonly line?: number }
  | { readonly kind: 'list'; readonly items: readonly Setting[]; readonly line?: number }
  /** A value that only GitLab itself can compute. It is never shown, because it may contain a secret. */
  | { readonly kind: 'unread'; readonly reason: string; readonly line?: number };

/** The names and list indexes that lead to a setting: `['gitaly', 'configuration', 'tls_listen_addr']`. */
export type SettingPath = readonly (string | number)[];

/** The key and line of a setting. */
export interface SettingPlace {
  /** Formatted for prose: `gitaly['configuration'].tls_listen_addr`. */
  readonly key: string;
  readonly line: number | undefined;
}

/** A setting that was not imported, and the reason. Never contains its value, which may be a secret. */
export interface Unread extends SettingPlace {
  readonly reason: string;
}

export function scalar(value: string | number | boolean | null, line?: number): Setting {
  return { kind: 'scalar', value, ...at(line) };
}

export function unread(reason: string, line?: number): Setting {
  return { kind: 'unread', reason, ...at(line) };
}

/** `{ line }`, if it is known. */
export function at(line: number | undefined): { readonly line?: number } {
  return line === undefined ? {} : { line };
}

/** Converts a parsed YAML or TOML value. `lineOf` returns the line of a value, if the parser keeps it. */
export function settingOf(
  value: unknown,
  lineOf: (path: readonly (string | number)[]) => number | undefined = () => undefined,
  path: readonly (string | number)[] = [],
): Setting {
  const line = lineOf(path);
  if (value === null || typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string')
    return scalar(value, line);
  // A 64-bit integer of TOML. The proxy reads no numeric settings.
  if (typeof value === 'bigint') return scalar(Number(value), line);
  if (Array.isArray(value)) {
    const items = value.map((item: unknown, index) => settingOf(item, lineOf, [...path, index]));
    return { kind: 'list', items, ...at(line) };
  }
  if (typeof value === 'object' && isPlain(value)) {
    const entries = new Map<string, Setting>();
    for (const [name, entry] of Object.entries(value))
      entries.set(name, settingOf(entry, lineOf, [...path, name]));
    return { kind: 'map', entries, ...at(line) };
  }
  return unread('expected a string, a number, a map or a list', line);
}

/** Whether an object is a map, unlike a TOML date. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** A setting, and the path at which it was found. */
export interface FoundSetting {
  readonly path: SettingPath;
  readonly setting: Setting;
}

/** The setting at a path, or its closest ancestor that could not be read. */
export function settingAt(root: Setting, path: SettingPath): FoundSetting | undefined {
  let here: Setting = root;
  for (const [depth, name] of path.entries()) {
    if (here.kind === 'unread') return { path: path.slice(0, depth), setting: here };
    const next: Setting | undefined =
      here.kind === 'map'
        ? here.entries.get(String(name))
        : here.kind === 'list'
          ? here.items[Number(name)]
          : undefined;
    if (next === undefined) return undefined;
    here = next;
  }
  return { path, setting: here };
}

/** Formats a path for prose: `above.name[0]`. */
export function keyOf(path: SettingPath, above = ''): string {
  return path.reduce<string>((key, name) => {
    if (typeof name === 'number') return `${key}[${name}]`;
    const shown = /^[\w-]+$/u.test(name) ? name : JSON.stringify(name);
    return key === '' ? shown : `${key}.${shown}`;
  }, above);
}
