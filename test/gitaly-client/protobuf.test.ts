import fc from 'fast-check';
import { expect, test } from 'vitest';

import { readServingStatus } from '../../src/gitaly-client/check-health.js';
import { readServerInfo } from '../../src/gitaly-client/server-info.js';

/** `server_version: "15.11.13"`, `git_version: "2.39"`, a storage with all its fields, and an unknown fixed64. */
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

test('a serving status may have several bytes, is 0 where it is absent, and the last one counts', () => {
  expect(readServingStatus(Buffer.from([0x08, 0xac, 0x02]))).toBe(300);
  expect(readServingStatus(Buffer.alloc(0))).toBe(0);
  expect(readServingStatus(Buffer.from([0x08, 1, 0x08, 2]))).toBe(2);
});

test('a field of another wire type than the message defines is skipped', () => {
  expect(readServingStatus(Buffer.from([0x0a, 1, 0x61]))).toBe(0);
});

test('bytes that end within a field are not a message', () => {
  const boundaries = [0, 10, 16, 33, INFO.length];
  for (let length = 0; length <= INFO.length; length++)
    expect([length, readServerInfo(INFO.subarray(0, length)) !== undefined]).toEqual([
      length,
      boundaries.includes(length),
    ]);
});

test('no bytes whatever make it throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      readServerInfo(Buffer.from(bytes));
      readServingStatus(Buffer.from(bytes));
    }),
  );
});
