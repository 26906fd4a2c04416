import { describe, expect, it, test } from 'vitest';

import { readDescriptorSet } from '../../../src/commands/rpcs/descriptor-set.js';
import {
  descriptorSet,
  field,
  message,
  method,
  STORAGE,
  TARGET_REPOSITORY,
} from '../../support/descriptor-set.js';

const REPOSITORY = '.gitaly.Repository';
const MESSAGES = [
  message({ 1: 'Repository', 2: [field('storage_name', 2)] }),
  message({ 1: 'ObjectPool', 2: [field('repository', 1, { type: REPOSITORY })] }),
  message({
    1: 'FindRequest',
    2: [field('repository', 1, { type: REPOSITORY, options: TARGET_REPOSITORY })],
  }),
  message({
    1: 'PoolRequest',
    2: [field('object_pool', 2, { type: '.gitaly.ObjectPool', options: TARGET_REPOSITORY })],
  }),
  message({ 1: 'StorageRequest', 2: [field('name', 1), field('storage', 3, { options: STORAGE })] }),
  // Its repository is within a message that is declared in it.
  message({
    1: 'StreamRequest',
    2: [field('header', 1, { type: '.gitaly.StreamRequest.Header' })],
    3: [
      message({
        1: 'Header',
        2: [field('repository', 4, { type: REPOSITORY, options: TARGET_REPOSITORY })],
      }),
    ],
  }),
  message({ 1: 'PlainRequest' }),
  // It contains itself.
  message({ 1: 'Tree', 2: [field('child', 1, { type: '.gitaly.Tree' })] }),
];

function read(methods: readonly Uint8Array[]) {
  return readDescriptorSet(descriptorSet(MESSAGES, [message({ 1: 'A', 2: methods })]));
}

describe('an RPC is read with its stream type and operation:', () => {
  it.each([
    [{ operation: 2 }, 'unary', 'accessor'],
    [{ operation: 1, client: 1 }, 'client_stream', 'mutator'],
    [{ operation: 3, server: 1 }, 'server_stream', 'maintenance'],
    [{ client: 1, server: 1 }, 'bidi_stream', 'none'],
    [{ operation: 0 }, 'unary', 'none'],
    // An operation of a later version may change repositories.
    [{ operation: 4 }, 'unary', 'mutator'],
  ] as const)('%j', (options, type, operation) => {
    expect(read([method('M', '.gitaly.PlainRequest', options)])).toEqual([
      {
        service: 'gitaly.A',
        method: 'M',
        type,
        operation,
        repositoryField: undefined,
        storageField: undefined,
      },
    ]);
  });
});

describe('the field of the request with the repository or the storage is found:', () => {
  it.each([
    ['FindRequest', [1], undefined],
    ['PoolRequest', [2, 1], undefined],
    ['StreamRequest', [1, 4], undefined],
    ['StorageRequest', undefined, [3]],
    ['Tree', undefined, undefined],
  ] as const)('%s', (input, repositoryField, storageField) => {
    expect(read([method('M', `.gitaly.${input}`)])).toMatchObject([{ repositoryField, storageField }]);
  });
});

test('bytes that are not a descriptor set, and one without services, are refused', () => {
  expect(readDescriptorSet(Buffer.from('syntax = "proto3";'))).toBe('it is not a FileDescriptorSet');
  expect(readDescriptorSet(Buffer.alloc(0))).toBe('it is not a FileDescriptorSet');
  expect(readDescriptorSet(descriptorSet(MESSAGES, []))).toBe('it contains no service');
  const whole = descriptorSet(MESSAGES, [message({ 1: 'A', 2: [method('M', '.gitaly.Tree')] })]);
  for (let length = 1; length < whole.length; length++)
    expect(readDescriptorSet(whole.subarray(0, length))).toBe('it is not a FileDescriptorSet');
});
