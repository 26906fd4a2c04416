import { Writer } from 'protobufjs/minimal.js';
import { describe, expect, test } from 'vitest';

import { MAX_AUDITED_MESSAGE_BYTES } from '../../../src/limits.js';
import { AuditedRequest } from '../../../src/telemetry/audit/audited-request.js';
import { requestRepository } from '../../../src/telemetry/audit/request-repository.js';

const WRITE_REF = '/gitaly.RepositoryService/WriteRef';
const EXPECTED = { storage: 'default', relativePath: '@hashed/ab/cd.git' };

type Fields = (writer: Writer) => Writer;

/** A field with bytes: a string, or a message. */
function field(number: number, content: string | Uint8Array): Fields {
  return (writer) => writer.uint32(number * 8 + 2).bytes(Buffer.from(content));
}

function message(...fields: readonly Fields[]): Buffer {
  return Buffer.from(fields.reduce((writer, add) => add(writer), Writer.create()).finish());
}

/** `gitaly.Repository`, with fields before and between that are not read. */
const REPOSITORY = message(
  (writer) => writer.uint32(7 * 8).uint64(300),
  field(2, EXPECTED.storage),
  field(6, 'project-1'),
  field(3, EXPECTED.relativePath),
);

describe('the repository of a request is read', () => {
  test.each([
    ['as field 1 of most', WRITE_REF, message(field(1, REPOSITORY), field(2, 'refs/heads/main'))],
    [
      'behind other fields',
      WRITE_REF,
      message(field(9, 'x'), (writer) => writer.uint32(77).fixed32(1), field(1, REPOSITORY)),
    ],
    [
      'without the slash in front, which grpc-go does not need',
      WRITE_REF.slice(1),
      message(field(1, REPOSITORY)),
    ],
    [
      'as field 2',
      '/gitaly.ObjectPoolService/LinkRepositoryToObjectPool',
      message(field(1, message(field(1, message(field(2, 'pools'))))), field(2, REPOSITORY)),
    ],
    [
      'in a header',
      '/gitaly.OperationService/UserCommitFiles',
      message(field(1, message(field(1, REPOSITORY)))),
    ],
    [
      'in the object pool of field 2',
      '/gitaly.ObjectPoolService/FetchIntoObjectPool',
      message(field(1, message(field(2, 'origin'))), field(2, message(field(1, REPOSITORY)))),
    ],
    [
      'the last of several, as in protobuf',
      WRITE_REF,
      message(field(1, message(field(2, 'other'), field(3, 'other'))), field(1, REPOSITORY)),
    ],
    [
      'split in two, as protobuf merges them',
      WRITE_REF,
      message(
        field(1, message(field(2, EXPECTED.storage))),
        field(1, message(field(3, EXPECTED.relativePath))),
      ),
    ],
  ])('%s', (_, path, bytes) => {
    expect(requestRepository(path, bytes)).toEqual(EXPECTED);
  });

  test('or its storage, if the request names only that', () => {
    expect(requestRepository('/gitaly.RepositoryService/RemoveAll', message(field(1, 'default')))).toEqual({
      storage: 'default',
      relativePath: undefined,
    });
  });
});

test('what is not a request of Gitaly, or does not name a repository, has none', () => {
  expect(requestRepository('/other.Service/WriteRef', message(field(1, REPOSITORY)))).toBeUndefined();
  expect(requestRepository(WRITE_REF, message(field(2, REPOSITORY)))).toBeUndefined();
  expect(requestRepository(WRITE_REF, Buffer.alloc(0))).toBeUndefined();
  expect(requestRepository('', REPOSITORY)).toBeUndefined();
});

test('bytes of any kind are read to their end without an exception, in time that is linear', () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const paths = [
    WRITE_REF,
    '/gitaly.OperationService/UserCommitFiles',
    '/gitaly.RepositoryService/RemoveAll',
  ];
  const valid = message(field(1, REPOSITORY), field(2, 'refs/heads/main'));
  for (let round = 0; round < 20_000; round++) {
    const bytes = round % 2 === 0 ? Buffer.from(valid) : Buffer.alloc(random(64));
    for (let change = random(8); change >= 0; change--) bytes[random(bytes.length)] = random(256);
    const found = requestRepository(paths[round % 3] ?? '', bytes.subarray(0, random(bytes.length + 1)));
    expect(found?.storage?.length ?? 0).toBeLessThanOrEqual(bytes.length);
  }
  // Nested as deep as possible, and varints that do not end.
  for (const byte of [0x0a, 0x80, 0xff, 0x0b, 0x02]) requestRepository(WRITE_REF, Buffer.alloc(4096, byte));
});

describe('the first message of a call', () => {
  function prefixed(content: Uint8Array, flag = 0): Buffer {
    const prefix = Buffer.from([flag, 0, 0, 0, 0]);
    prefix.writeUInt32BE(content.length, 1);
    return Buffer.concat([prefix, content]);
  }

  /** Feeds bytes in slices of a size, each in a buffer that is overwritten after it. */
  function fed(bytes: Buffer, size: number): AuditedRequest {
    const request = new AuditedRequest();
    for (let start = 0; start < bytes.length; start += size) {
      const slice = Buffer.concat([
        Buffer.from('..'),
        bytes.subarray(start, start + size),
        Buffer.from('..'),
      ]);
      request.add(slice, 2, slice.length - 2);
      slice.fill(0xff);
    }
    return request;
  }

  const whole = prefixed(message(field(1, REPOSITORY)));

  test.each([1, 2, 3, 7, 1000])('is read in slices of %i bytes, and not the second one', (size) => {
    const second = prefixed(message(field(1, message(field(2, 'other'), field(3, 'other')))));
    const request = fed(Buffer.concat([whole, second]), size);
    expect(request.repositoryOf(WRITE_REF)).toEqual(EXPECTED);
    expect(request.isCut).toBe(false);
  });

  test('is read up to a bound, and marked', () => {
    const long = prefixed(message(field(1, REPOSITORY), field(2, Buffer.alloc(MAX_AUDITED_MESSAGE_BYTES))));
    const request = fed(long, 1000);
    expect(request.repositoryOf(WRITE_REF)).toEqual(EXPECTED);
    expect(request.isCut).toBe(true);
    const hidden = prefixed(message(field(2, Buffer.alloc(MAX_AUDITED_MESSAGE_BYTES)), field(1, REPOSITORY)));
    expect(fed(hidden, 1000).repositoryOf(WRITE_REF)).toBeUndefined();
    expect(fed(hidden, 1000).isCut).toBe(true);
  });

  test('that is compressed, or ends early, is marked', () => {
    const compressed = fed(prefixed(message(field(1, REPOSITORY)), 1), 1000);
    expect([compressed.repositoryOf(WRITE_REF), compressed.isCut]).toEqual([undefined, true]);
    for (let length = 1; length < whole.length; length++)
      expect(fed(whole.subarray(0, length), 1000).isCut, String(length)).toBe(true);
  });

  test('that is empty, or has not come, names nothing and is not marked', () => {
    expect(fed(prefixed(Buffer.alloc(0)), 1000).isCut).toBe(false);
    expect(fed(Buffer.alloc(0), 1000).isCut).toBe(false);
    expect(fed(Buffer.alloc(0), 1000).repositoryOf(WRITE_REF)).toBeUndefined();
  });
});
