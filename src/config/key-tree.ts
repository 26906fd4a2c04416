import type { KeyPath } from './model.js';

/** Values by key path. The cost of a lookup depends only on the length of the path. */
export class KeyTree<T> {
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
