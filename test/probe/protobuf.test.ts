import fc from 'fast-check';
import { expect, test } from 'vitest';

import { readFields } from '../../src/probe/protobuf.js';
import { readServerInfo } from '../../src/probe/server-info.js';

/** `server_version: "15.11.13"`, `git_version: "2.39"`, a storage with all its fields, and a fixed64 that nobody knows. */
const INFO = Buffer.concat([
  Buffer.from('\x0a\x0815.11.13\x12\x042.39', 'latin1'),
  Buffer.from('\x1a\x0f\x0a\x07default\x10\x01\x22\x02fs', 'latin1'),
  Buffer.from([(9 << 3) | 1, 1, 2, 3, 4, 5, 6, 7, 8]),
]);

test('ServerInfo is read field by field, false where a field is not there', () => {
  expect(readServerInfo(INFO)).toEqual({
    serverVersion: '15.11.13',
    gitVersion: '2.39',
    storages: [{ name: 'default', readable: true, writeable: false }],
  });
});

test('a varint may have several bytes', () => {
  expect(readFields(Buffer.from([0x08, 0xac, 0x02]))).toEqual([{ number: 1, value: 300 }]);
});

test('what is cut off within a field is no message', () => {
  const boundaries = [0, 10, 16, 33, INFO.length];
  for (let length = 0; length <= INFO.length; length++)
    expect([length, readFields(INFO.subarray(0, length)) !== undefined]).toEqual([
      length,
      boundaries.includes(length),
    ]);
});

test('no bytes whatever make it throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      readServerInfo(Buffer.from(bytes));
    }),
  );
});
