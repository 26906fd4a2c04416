import { describe, expect, it, test } from 'vitest';

import { formatRpcFile, readRpcFile } from '../../src/policy/rpc-file.js';

const HEADER = 'method\ttype\toperation\tscope\tfirst_seen\tlast_seen';

test('the columns are found by their names, and further ones and comments are ignored', () => {
  const text = `# a comment\n${HEADER}\ngitaly.A/B\tunary\taccessor\trepository\t1\t2\n\ngrpc.C/D\tbidi_stream\tnone\r\n`;
  expect(readRpcFile(text)).toEqual({
    problems: [],
    rpcs: [
      { service: 'gitaly.A', method: 'B', type: 'unary', operation: 'accessor' },
      { service: 'grpc.C', method: 'D', type: 'bidi_stream', operation: 'none' },
    ],
  });
});

test('a table that is written is read again', () => {
  const rpcs = [
    {
      service: 'gitaly.A',
      method: 'B',
      type: 'unary',
      operation: 'mutator',
      repositoryField: [1, 2],
      storageField: undefined,
    },
    {
      service: 'gitaly.A',
      method: 'C',
      type: 'client_stream',
      operation: 'none',
      repositoryField: undefined,
      storageField: [3],
    },
  ] as const;
  expect(readRpcFile(formatRpcFile(rpcs, 'a comment'))).toEqual({ problems: [], rpcs });
});

describe('a malformed table is refused with the line and what would be right', () => {
  it.each([
    ['', 'the file is empty: expected a header'],
    ['a\tb\n', 'line 1: the header has no column method, type, operation'],
    [`${HEADER}\n/a.B/C\tunary\taccessor\n`, 'line 2: the method "/a.B/C" is malformed'],
    [`${HEADER}\na.B/C\tsimple\taccessor\n`, 'line 2: the type "simple" is unknown: expected unary,'],
    [`${HEADER}\na.B/C\tunary\tread\n`, 'line 2: the operation "read" is unknown: expected accessor,'],
    [`${HEADER}\na.B/C\tunary\tnone\na.B/C\tunary\tnone\n`, 'line 3: a.B/C is repeated'],
    [`${HEADER}\trepository_field\na.B/C\tunary\tnone\t\t\t\tx\n`, 'line 2: a field is malformed'],
  ])('%j', (text, message) => {
    expect(readRpcFile(text).problems.join()).toContain(message);
  });
});
