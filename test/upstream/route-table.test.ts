import { expect, test } from 'vitest';

import type { Address, ServerNameRoute } from '../../src/config/model.js';
import { RouteTable } from '../../src/upstream/route-table.js';

function upstream(name: string): Address {
  return { scheme: 'unix', path: `/${name}`, url: `unix:/${name}` };
}

function route(name: string, to = name): ServerNameRoute {
  return { key: [], name, upstream: upstream(to) };
}

/** A table whose upstreams are their URLs. */
function table(routes: readonly ServerNameRoute[], fallback?: Address): RouteTable<string> {
  return new RouteTable({ routes, fallback }, ({ url }) => url);
}

const ROUTES = [
  route('a.internal'),
  route('*.internal', 'wildcard'),
  route('*.eu.internal', 'eu'),
  route('b.eu.internal', 'b'),
];

test.each([
  ['a.internal', 'unix:/a.internal'],
  ['A.INTERNAL', 'unix:/a.internal'],
  ['a.internal.', 'unix:/a.internal'],
  ['b.internal', 'unix:/wildcard'],
  // RFC 6125 section 6.4.3: a wildcard stands for one label.
  ['c.b.internal', undefined],
  ['internal', undefined],
  ['.internal', undefined],
  ['eu.internal', 'unix:/wildcard'],
  ['b.eu.internal', 'unix:/b'],
  ['c.eu.internal', 'unix:/eu'],
  ['*.eu.internal', 'unix:/eu'],
  ['a.internal.evil', undefined],
  ['a.internal\0', undefined],
  ['10.0.0.1', undefined],
  ['', undefined],
  ['constructor', undefined],
  [undefined, undefined],
])('%s goes to %s', (name, expected) => {
  expect(table(ROUTES).find(name)).toBe(expected);
  // With a default no client is refused, and a name with an upstream of its own keeps it.
  expect(table(ROUTES, upstream('rest')).find(name)).toBe(expected ?? 'unix:/rest');
});

test('a forward without names is for all', () => {
  const plain = table([], upstream('gitaly'));
  expect(plain.only).toBe('unix:/gitaly');
  for (const name of ['a.internal', '', undefined]) expect(plain.find(name)).toBe('unix:/gitaly');
  expect(table(ROUTES, upstream('rest')).only).toBeUndefined();
});

test('an upstream is made once, however many names lead there', () => {
  const made: string[] = [];
  const routes = [route('a', 'one'), route('b', 'one'), route('c', 'two')];
  const several = new RouteTable({ routes, fallback: upstream('one') }, ({ url }) => {
    made.push(url);
    return { url };
  });
  expect(made).toEqual(['unix:/one', 'unix:/two']);
  expect(several.find('a')).toBe(several.find('b'));
  expect(several.find('z')).toBe(several.find('a'));
});
