import { expect, test } from 'vitest';

import { ConnectionQuota } from '../../src/serving/connection-quota.js';
import { UNAUTHENTICATED_MS } from '../../src/limits.js';

const LIMITS = { maxConnections: 6, maxUnauthenticatedConnections: 3, maxConnectionsPerSource: undefined };

function quota(): { quota: ConnectionQuota; evicted: number[] } {
  const evicted: number[] = [];
  return { quota: new ConnectionQuota((id) => evicted.push(id)), evicted };
}

test('unauthenticated connections have a share of their own; authenticated and closed connections do not count', () => {
  const { quota: connections } = quota();
  const admit = (id: number): string | undefined => connections.admit(id, undefined, LIMITS, 0);
  for (const id of [1, 2, 3]) expect(admit(id)).toBeUndefined();
  expect(admit(4)).toBe('max_unauthenticated_connections');
  connections.authenticate(1);
  connections.authenticate(1);
  expect(admit(5)).toBeUndefined();
  expect(admit(6)).toBe('max_unauthenticated_connections');
  connections.end(2);
  connections.end(2);
  expect(admit(7)).toBeUndefined();
  for (const id of [3, 5, 7]) connections.authenticate(id);
  expect(admit(8)).toBeUndefined();
  expect(admit(9)).toBeUndefined();
  expect(admit(10)).toBe('max_connections');
  for (const id of [1, 3, 5, 7, 8, 9]) connections.end(id);
  expect(connections.size).toBe(0);
});

test('a new connection takes the place of the oldest unauthenticated one that has had its time', () => {
  const { quota: connections, evicted } = quota();
  for (const id of [1, 2, 3]) connections.admit(id, undefined, LIMITS, id);
  connections.authenticate(1);
  connections.admit(4, undefined, LIMITS, 4);
  expect(connections.admit(5, undefined, LIMITS, UNAUTHENTICATED_MS + 1)).toBe(
    'max_unauthenticated_connections',
  );
  expect(evicted).toEqual([]);
  expect(connections.admit(6, undefined, LIMITS, UNAUTHENTICATED_MS + 2)).toBeUndefined();
  expect(evicted).toEqual([2]);
  // It is open until it has ended.
  expect(connections.size).toBe(5);
});

test('at max_connections a new connection takes the place of an unauthenticated one, as often as there is one', () => {
  const { quota: connections, evicted } = quota();
  for (const id of [1, 2, 3, 4]) {
    connections.admit(id, undefined, LIMITS, 0);
    connections.authenticate(id);
  }
  for (const id of [5, 6]) connections.admit(id, undefined, LIMITS, 0);
  expect(connections.admit(7, undefined, LIMITS, UNAUTHENTICATED_MS - 1)).toBe('max_connections');
  const admit = (id: number): string | undefined =>
    connections.admit(id, undefined, LIMITS, UNAUTHENTICATED_MS);
  expect([admit(8), admit(9)]).toEqual([undefined, undefined]);
  expect(evicted).toEqual([5, 6]);
  for (const id of [8, 9]) connections.authenticate(id);
  expect(admit(10)).toBe('max_connections');
  for (const id of [5, 6]) connections.end(id);
  expect(admit(11)).toBe('max_connections');
  connections.end(1);
  expect(admit(12)).toBeUndefined();
});

test('connections of one source address are counted, whenever the address is known', () => {
  const { quota: connections } = quota();
  const limits = { ...LIMITS, maxUnauthenticatedConnections: 6, maxConnectionsPerSource: 2 };
  const admit = (id: number, source?: string): string | undefined => connections.admit(id, source, limits, 0);
  expect(admit(1, '192.0.2.1')).toBeUndefined();
  expect(admit(2)).toBeUndefined();
  expect(connections.identify(2, '192.0.2.1', limits)).toBeUndefined();
  expect(admit(3, '192.0.2.1')).toBe('max_connections_per_source');
  expect(admit(4)).toBeUndefined();
  expect(connections.identify(4, '192.0.2.1', limits)).toBe('max_connections_per_source');
  connections.end(4);
  expect(admit(5, '2001:db8::1')).toBeUndefined();
  connections.end(2);
  expect(admit(6, '192.0.2.1')).toBeUndefined();
});
