/** The repository that a request names. */
export interface RequestRepository {
  readonly storage: string | undefined;
  /** `undefined` for a request that names a storage only. */
  readonly relativePath: string | undefined;
}

/** The place of the repository in a request: the field numbers that lead to it, and the kind of the last one. */
interface RepositoryField {
  readonly path: readonly number[];
  readonly kind: 'repository' | 'storage';
}

interface Found {
  storage?: string;
  relativePath?: string;
}

const FIRST: RepositoryField = { path: [1], kind: 'repository' };
/** In the header of a stream of requests, or in an `ObjectPool`. */
const FIRST_OF_FIRST: RepositoryField = { path: [1, 1], kind: 'repository' };
const FIRST_STORAGE: RepositoryField = { path: [1], kind: 'storage' };

/** The field with the option `target_repository` or `storage` in Gitaly's .proto files, where it is not field 1. */
const EXCEPTIONS = new Map<string, RepositoryField>(
  Object.entries({
    'gitaly.ConflictsService/ResolveConflicts': FIRST_OF_FIRST,
    'gitaly.OperationService/UserApplyPatch': FIRST_OF_FIRST,
    'gitaly.OperationService/UserCommitFiles': FIRST_OF_FIRST,
    'gitaly.OperationService/UserRebaseConfirmable': FIRST_OF_FIRST,
    'gitaly.ObjectPoolService/CreateObjectPool': FIRST_OF_FIRST,
    'gitaly.ObjectPoolService/DeleteObjectPool': FIRST_OF_FIRST,
    'gitaly.ObjectPoolService/FetchIntoObjectPool': { path: [2, 1], kind: 'repository' },
    'gitaly.ObjectPoolService/LinkRepositoryToObjectPool': { path: [2], kind: 'repository' },
    'gitaly.NamespaceService/AddNamespace': FIRST_STORAGE,
    'gitaly.NamespaceService/RemoveNamespace': FIRST_STORAGE,
    'gitaly.NamespaceService/RenameNamespace': FIRST_STORAGE,
    'gitaly.RepositoryService/RemoveAll': FIRST_STORAGE,
  }),
);

/** The fields of `gitaly.Repository`. */
const STORAGE_NAME = 2;
const RELATIVE_PATH = 3;

/** Wire types (protobuf.dev, "Encoding"). */
const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

/**
 * Reads the repository that the first message of a call names.
 *
 * @param message - the message, or its beginning. As in protobuf, the last value of a field counts.
 * @returns `undefined` if the message is not protobuf or does not name one
 */
export function requestRepository(path: string, message: Buffer): RequestRepository | undefined {
  // A leading slash may be missing.
  const name = path.startsWith('/') ? path.slice(1) : path;
  if (!name.startsWith('gitaly.')) return undefined;
  const field = EXCEPTIONS.get(name) ?? FIRST;
  const found: Found = {};
  read(message, 0, message.length, field, 0, found);
  const { storage, relativePath } = found;
  return storage === undefined && relativePath === undefined ? undefined : { storage, relativePath };
}

/** Reads one message. `depth`: the length of the path that leads to it. */
function read(
  bytes: Buffer,
  start: number,
  end: number,
  field: RepositoryField,
  depth: number,
  found: Found,
): void {
  const { path, kind } = field;
  let offset = start;
  while (offset < end) {
    const [tag, afterTag] = readVarint(bytes, offset, end);
    const [next, from] = skipValue(bytes, afterTag, end, tag % 8);
    // Cut off, or not protobuf: what was read so far counts.
    if (next > end) return;
    const number = Math.floor(tag / 8);
    if (tag % 8 === DELIMITED) {
      if (depth < path.length) {
        if (number === path[depth]) {
          if (depth === path.length - 1 && kind === 'storage') found.storage = text(bytes, from, next);
          else read(bytes, from, next, field, depth + 1, found);
        }
      } else if (number === STORAGE_NAME) found.storage = text(bytes, from, next);
      else if (number === RELATIVE_PATH) found.relativePath = text(bytes, from, next);
    }
    offset = next;
  }
}

/** The offset behind a value, beyond `end` if it is cut off or not valid; and where its content begins. */
function skipValue(
  bytes: Buffer,
  offset: number,
  end: number,
  wireType: number,
): [next: number, from: number] {
  switch (wireType) {
    case VARINT:
      return [readVarint(bytes, offset, end)[1], offset];
    case FIXED64:
      return [offset + 8, offset];
    case DELIMITED: {
      const [length, from] = readVarint(bytes, offset, end);
      return [from + length, from];
    }
    case FIXED32:
      return [offset + 4, offset];
    default:
      // Groups, which Gitaly does not use, and what is not a wire type.
      return [Number.POSITIVE_INFINITY, offset];
  }
}

/** A varint of at most ten bytes, and the offset behind it: infinite if it is cut off or longer. */
function readVarint(bytes: Buffer, start: number, end: number): [value: number, next: number] {
  let value = 0;
  for (let index = 0; index < 10 && start + index < end; index++) {
    const byte = bytes[start + index] ?? 0;
    // No shift: a length may use all 32 bits. Larger values are not exact, and lead beyond the end in any case.
    value += (byte & 127) * 128 ** index;
    if (byte < 128) return [value, start + index + 1];
  }
  return [0, Number.POSITIVE_INFINITY];
}

function text(bytes: Buffer, start: number, end: number): string {
  return bytes.toString('utf8', start, end);
}
