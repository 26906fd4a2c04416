import { expect, test } from 'vitest';

import { MAX_LEARNED_METHODS } from '../../src/limits.js';
import { MethodTable } from '../../src/telemetry/rpc/method-table.js';

function labels(table: MethodTable): string[] {
  return [...table.all()].map(({ service, method }) => `/${service}/${method}`);
}

test('Gitaly’s methods have labels, stream type and operation from the start', () => {
  const table = new MethodTable();
  expect(table.find('/gitaly.SmartHTTPService/PostUploadPackWithSidechannel')).toMatchObject({
    service: 'gitaly.SmartHTTPService',
    method: 'PostUploadPackWithSidechannel',
    type: 'unary',
    operation: 'accessor',
  });
  expect(labels(table).length).toBeGreaterThan(172);
  expect(new Set(labels(table)).size).toBe(labels(table).length);
});

test('100 000 invented methods have one label together', () => {
  const table = new MethodTable();
  const before = labels(table);
  for (let made = 0; made < 100_000; made++)
    expect(table.find(`/invented.Service/Method${made}`)).toBe(table.other);
  expect(labels(table)).toEqual(before);
});

test('methods that upstream has answered have labels of their own, up to a bound', () => {
  const table = new MethodTable();
  const before = labels(table).length;
  for (let made = 0; made < 100_000; made++) table.learn(`/later.Service/Method${made}`);
  expect(labels(table)).toHaveLength(before + MAX_LEARNED_METHODS);
  expect(table.find('/later.Service/Method0')).toMatchObject({
    service: 'later.Service',
    method: 'Method0',
    type: 'unknown',
  });
  expect(table.find(`/later.Service/Method${MAX_LEARNED_METHODS}`)).toBe(table.other);
});

test.each([
  '',
  '/',
  'a.B/C',
  '/a.B',
  '/a.B/',
  '/a.B/C/D',
  '//C',
  '/a.B/C?d',
  '/a b/C',
  '/a.B/C\n',
  `/a.B/${'C'.repeat(200)}`,
])('a path that is not that of a method has no label: %j', (path) => {
  const table = new MethodTable();
  table.learn(path);
  expect(table.find(path)).toBe(table.other);
});
