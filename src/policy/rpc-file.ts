import { MAX_RPCS } from '../limits.js';
import type { RpcOperation, RpcType } from './known-rpcs.js';
import type { Rpc } from './rpc-table.js';

const TYPES: readonly RpcType[] = ['unary', 'client_stream', 'server_stream', 'bidi_stream'];
const OPERATIONS: readonly RpcOperation[] = ['accessor', 'mutator', 'maintenance', 'none'];

/** The columns that are read, by their names in the header; others are ignored. */
const COLUMNS = ['method', 'type', 'operation', 'repository_field', 'storage_field'] as const;
const REQUIRED = ['method', 'type', 'operation'] as const;

const METHOD = /^((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)\/([A-Za-z_]\w*)$/u;
const FIELD = /^(?:[1-9]\d{0,8}(?:\.[1-9]\d{0,8})*)?$/u;

interface RpcFile {
  readonly rpcs: readonly Rpc[];
  /** Each with its line. */
  readonly problems: readonly string[];
}

/**
 * Reads a table of RPCs: tab-separated lines below a header with the names of the columns. Lines that begin with `#`, and empty
 * ones, are ignored.
 */
export function readRpcFile(text: string): RpcFile {
  const problems: string[] = [];
  const rpcs = new Map<string, Rpc>();
  let columns: readonly string[] | undefined;
  for (const [index, line] of text.split(/\r?\n/u).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const refuse = (message: string): void => {
      problems.push(`line ${index + 1}: ${message}`);
    };
    const cells = line.split('\t').map((cell) => cell.trim());
    if (!columns) {
      columns = cells;
      const missing = REQUIRED.filter((name) => !cells.includes(name));
      if (missing.length > 0) {
        refuse(
          `the header has no column ${missing.join(', ')}: expected the tab-separated names method, type, operation`,
        );
        return { rpcs: [], problems };
      }
      continue;
    }
    const row = readRow(columns, cells);
    if (typeof row === 'string') refuse(row);
    else if (rpcs.has(`${row.service}/${row.method}`))
      refuse(`${row.service}/${row.method} is repeated: remove one of the lines`);
    else rpcs.set(`${row.service}/${row.method}`, row);
    if (rpcs.size > MAX_RPCS) {
      refuse(`the file has more than ${MAX_RPCS} RPCs`);
      break;
    }
  }
  if (!columns)
    problems.push('the file is empty: expected a header with the columns method, type, operation');
  return { rpcs: [...rpcs.values()], problems };
}

/** @returns the RPC, or what is wrong with the line */
function readRow(columns: readonly string[], cells: readonly string[]): Rpc | string {
  const cell = (name: (typeof COLUMNS)[number]): string => cells[columns.indexOf(name)] ?? '';
  const [, service, method] = METHOD.exec(cell('method')) ?? [];
  if (service === undefined || method === undefined)
    return `the method ${JSON.stringify(cell('method'))} is malformed: expected package.Service/Method`;
  const type = TYPES.find((one) => one === cell('type'));
  if (type === undefined)
    return `the type ${JSON.stringify(cell('type'))} is unknown: expected ${TYPES.join(', ')}`;
  const operation = OPERATIONS.find((one) => one === cell('operation'));
  if (operation === undefined)
    return `the operation ${JSON.stringify(cell('operation'))} is unknown: expected ${OPERATIONS.join(', ')}`;
  const fields = (['repository_field', 'storage_field'] as const).map((name) => readField(cell(name)));
  const [repositoryField, storageField] = fields;
  if (repositoryField === null || storageField === null)
    return 'a field is malformed: expected the numbers of the fields that lead to it, such as 1 or 1.2';
  return { service, method, type, operation, repositoryField, storageField };
}

/** @returns `undefined` if it is absent, `null` if it is malformed */
function readField(text: string): readonly number[] | undefined | null {
  if (text === '') return undefined;
  return FIELD.test(text) ? text.split('.').map(Number) : null;
}

/** Formats a table that `readRpcFile` reads. */
export function formatRpcFile(rpcs: readonly Rpc[], comment: string): string {
  const rows = rpcs
    .map(({ service, method, type, operation, repositoryField, storageField }) =>
      [
        `${service}/${method}`,
        type,
        operation,
        repositoryField?.join('.') ?? '',
        storageField?.join('.') ?? '',
      ]
        .join('\t')
        .trimEnd(),
    )
    .sort();
  return [`# ${comment}`, COLUMNS.join('\t'), ...rows, ''].join('\n');
}
