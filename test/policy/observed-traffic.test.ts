import { describe, expect, test } from 'vitest';

import {
  mergeTraffic,
  ObservedTraffic,
  servedCalls,
  type ClientProperties,
  type ObservedRpc,
  type TrafficReport,
} from '../../src/policy/observed-traffic.js';

const FIND: ObservedRpc = { service: 'gitaly.RefService', method: 'FindBranch', operation: 'accessor' };
const DELETE: ObservedRpc = { service: 'gitaly.RefService', method: 'DeleteRefs', operation: 'mutator' };

function client(properties: Partial<ClientProperties> = {}): ClientProperties {
  return {
    listener: 'tls://0.0.0.0:9999',
    identities: [],
    tls_version: 'TLSv1.3',
    server_name: null,
    certificate: properties.identities ? 'verified' : 'absent',
    authorities: [],
    ...properties,
  };
}

/** Traffic whose clock the test sets. */
function start(maxRows = { verified: 100, others: 100 }) {
  const clock = { ms: 0 };
  const traffic = new ObservedTraffic(() => clock.ms, maxRows);
  return { traffic, clock };
}

function identitiesIn({ clients }: TrafficReport): readonly string[] {
  return clients.flatMap(({ identities }) => identities);
}

test('clients with the same properties are one group, and the others are apart', () => {
  const { traffic, clock } = start();
  const rails = traffic.connected(client({ identities: ['dns:rails'] }));
  clock.ms = 1000;
  const again = traffic.connected(client({ identities: ['dns:rails'] }));
  traffic.connected(client({ identities: ['dns:rails'], tls_version: 'TLSv1.2' }));
  traffic.connected(client());
  clock.ms = 2000;
  rails.called(FIND);
  again.called(FIND);
  again.decided(FIND, 'would_deny', 'readers');
  again.called(DELETE);
  again.refused(DELETE);
  const { clients, total, evicted, since } = traffic.report(10);
  expect({ total, evicted, since }).toEqual({
    total: 3,
    evicted: { clients: 0, rpcs: 0 },
    since: '1970-01-01T00:00:00.000Z',
  });
  expect(clients.map(({ tls_version, connections }) => [tls_version, connections])).toEqual([
    ['TLSv1.2', 1],
    ['TLSv1.3', 2],
    ['TLSv1.3', 1],
  ]);
  expect(clients[1]).toMatchObject({
    first_seen: '1970-01-01T00:00:00.000Z',
    last_seen: '1970-01-01T00:00:02.000Z',
    rpcs: [
      { rpc: 'gitaly.RefService/DeleteRefs', calls: 1, refused_by_upstream: 1, rule: null },
      {
        rpc: 'gitaly.RefService/FindBranch',
        operation: 'accessor',
        calls: 2,
        decisions: { allowed: 0, denied: 0, would_deny: 1 },
        rule: 'readers',
        first_seen: '1970-01-01T00:00:02.000Z',
      },
    ],
  });
});

test('a call is served unless the policy denied it or the upstream refused it', () => {
  const { traffic } = start();
  const one = traffic.connected(client());
  for (let made = 0; made < 3; made++) one.called(FIND);
  one.decided(FIND, 'denied', 'none');
  one.refused(FIND);
  const [calls] = traffic.report(1).clients[0]?.rpcs ?? [];
  expect(calls && servedCalls(calls)).toBe(1);
});

describe('memory is bounded', () => {
  test('the group of clients that was seen longest ago is evicted, and counted', () => {
    const { traffic, clock } = start({ verified: 4, others: 4 });
    const first = traffic.connected(client({ identities: ['dns:a'] }));
    first.called(FIND);
    clock.ms = 1000;
    const second = traffic.connected(client({ identities: ['dns:b'] }));
    clock.ms = 2000;
    first.called(FIND);
    clock.ms = 3000;
    traffic.connected(client({ identities: ['dns:c'] }));
    traffic.connected(client({ identities: ['dns:d'] }));
    expect(identitiesIn(traffic.report(10))).toEqual(['dns:a', 'dns:c', 'dns:d']);
    expect(traffic.report(10).evicted).toEqual({ clients: 1, rpcs: 0 });
    // An open connection of an evicted group is counted again with its next call.
    clock.ms = 4000;
    second.called(DELETE);
    expect(identitiesIn(traffic.report(10))).toContain('dns:b');
    expect(traffic.report(10).evicted).toEqual({ clients: 2, rpcs: 1 });
  });

  test('clients without a verified certificate evict only each other', () => {
    const { traffic } = start({ verified: 4, others: 4 });
    traffic.connected(client({ identities: ['dns:rails'] })).called(FIND);
    for (let index = 0; index < 1000; index++)
      traffic.connected(client({ server_name: `name-${index}` })).called(FIND);
    const { clients, total, evicted } = traffic.report(10);
    expect(clients.filter(({ identities }) => identities.length > 0)).toHaveLength(1);
    expect({ total, evicted }).toEqual({ total: 3, evicted: { clients: 998, rpcs: 998 } });
  });

  test('a report has at most as many groups as requested, in a stable order', () => {
    const { traffic } = start();
    for (const name of ['c', 'a', 'b']) traffic.connected(client({ identities: [`dns:${name}`] }));
    expect(identitiesIn(traffic.report(2))).toEqual(['dns:a', 'dns:b']);
    expect(traffic.report(2).total).toBe(3);
  });
});

test('the reports of workers are merged: counts are summed, and what is known since the last of them started', () => {
  const one = start();
  const other = start();
  one.clock.ms = 1000;
  const rails = one.traffic.connected(client({ identities: ['dns:rails'] }));
  rails.called(FIND);
  rails.decided(FIND, 'allowed', 'old');
  other.clock.ms = 2000;
  const same = other.traffic.connected(client({ identities: ['dns:rails'] }));
  same.called(FIND);
  same.decided(FIND, 'denied', 'new');
  same.called(DELETE);
  other.traffic.connected(client());
  const late = { ...other.traffic.report(10), since: '1970-01-01T00:00:01.500Z' };
  const merged = mergeTraffic([one.traffic.report(10), late, undefined], 10);
  expect(merged).toMatchObject({ since: '1970-01-01T00:00:01.500Z', missing_workers: 1, total: 2 });
  expect(merged.clients[0]).toMatchObject({
    connections: 2,
    first_seen: '1970-01-01T00:00:01.000Z',
    last_seen: '1970-01-01T00:00:02.000Z',
    rpcs: [
      { rpc: 'gitaly.RefService/DeleteRefs', calls: 1 },
      {
        rpc: 'gitaly.RefService/FindBranch',
        calls: 2,
        decisions: { allowed: 1, denied: 1, would_deny: 0 },
        rule: 'new',
      },
    ],
  });
  expect(mergeTraffic([one.traffic.report(10), late], 1)).toMatchObject({ total: 2 });
});
