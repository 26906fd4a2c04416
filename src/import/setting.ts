/**
 * What a file of GitLab's says, whichever language it is written in: scalars, maps and lists as they stand there, and in
 * their places what could not be read.
 */
export type Setting =
  | { readonly kind: 'scalar'; readonly value: string | number | boolean | null; readonly line?: number }
  | { readonly kind: 'map'; readonly entries: ReadonlyMap<string, Setting>; readonly line?: number }
  | { readonly kind: 'list'; readonly items: readonly Setting[]; readonly line?: number }
  /** Its value is known to the program alone that reads the file; never shown, as it may hold a secret. */
  | { readonly kind: 'unread'; readonly reason: string; readonly line?: number };

/** Where a setting stands: `['gitaly', 'configuration', 'tls_listen_addr']`. */
export type SettingPath = readonly string[];

/** Where a setting stands. */
export interface Place {
  /** As it is written in prose: `gitaly['configuration'].tls_listen_addr`. */
  readonly key: string;
  readonly line: number | undefined;
}

/** Something that was not taken over, in words for the operator: where it stands and why, never what it says. */
export interface Unread extends Place {
  readonly reason: string;
}

export function scalar(value: string | number | boolean | null, line?: number): Setting {
  return { kind: 'scalar', value, ...at(line) };
}

export function unread(reason: string, line?: number): Setting {
  return { kind: 'unread', reason, ...at(line) };
}

/** `{ line }`, where one is known. */
export function at(line: number | undefined): { readonly line?: number } {
  return line === undefined ? {} : { line };
}

/** Plain values, as parsers of data languages return them. `lineOf` knows their lines, where the parser keeps them. */
export function settingOf(
  value: unknown,
  lineOf: (path: readonly (string | number)[]) => number | undefined = () => undefined,
  path: readonly (string | number)[] = [],
): Setting {
  const line = lineOf(path);
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return scalar(value, line);
  if (typeof value === 'string') {
    // gitlab.yml goes through ERB before it is read as YAML.
    return value.includes('<%') ? unread('it is computed (ERB)', line) : scalar(value, line);
  }
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
  return unread('it is no text, number, map or list', line);
}

/** Whether an object is a map, and not a date of TOML's for one. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** The setting at a path; the one above it that could not be read, where there is such. */
export function settingAt(root: Setting, path: SettingPath): Setting | undefined {
  let here: Setting | undefined = root;
  for (const name of path) {
    if (here?.kind === 'unread') return here;
    here = here?.kind === 'map' ? here.entries.get(name) : undefined;
  }
  return here;
}

/** All that could not be read, at or below a setting. */
export function unreadIn(setting: Setting, key: string): Unread[] {
  switch (setting.kind) {
    case 'scalar':
      return [];
    case 'unread':
      return [{ key, line: setting.line, reason: setting.reason }];
    case 'map':
      return [...setting.entries].flatMap(([name, entry]) => unreadIn(entry, keyBelow(key, name)));
    case 'list':
      return setting.items.flatMap((item, index) => unreadIn(item, `${key}[${index}]`));
  }
}

/** The key of an entry: `above.name`, or the name alone at the top. */
export function keyBelow(above: string, name: string): string {
  const shown = /^[\w-]+$/u.test(name) ? name : JSON.stringify(name);
  return above === '' ? shown : `${above}.${shown}`;
}
