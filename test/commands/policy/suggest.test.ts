import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';

import { asYaml } from '../../../src/commands/policy/run-suggest.js';
import { suggest, type AllowForm } from '../../../src/commands/policy/suggest.js';
import { ObservedTraffic, type ObservedRpc } from '../../../src/policy/observed-traffic.js';
import { Policy, splitPath } from '../../../src/policy/policy.js';
import { RpcTable } from '../../../src/policy/rpc-table.js';

const TABLE = new RpcTable([]);
const LISTEN = 'tls://0.0.0.0:9999';
const FIND = 'gitaly.RefService/FindBranch';
const TAGS = 'gitaly.RefService/FindAllTags';
const DELETE = 'gitaly.RefService/DeleteRefs';
const HEALTH = 'grpc.health.v1.Health/Check';
const NEW = 'gitaly.NewService/NewMethod';

type Clients = readonly (readonly [identities: readonly string[], rpcs: readonly string[]])[];

const RPCS = new Map<string, ObservedRpc>();
function rpcOf(name: string): ObservedRpc {
  const { service, method } = splitPath(name);
  const rpc = RPCS.get(name) ?? {
    service,
    method,
    operation: TABLE.find(service, method)?.operation ?? 'unknown',
  };
  RPCS.set(name, rpc);
  return rpc;
}

/** A client of a listener, in the observed traffic. */
function connect(traffic: ObservedTraffic, identities: readonly string[], listener = LISTEN) {
  return traffic.connected({
    listener,
    identities,
    tls_version: 'TLSv1.3',
    server_name: null,
    certificate: identities.length > 0 ? 'verified' : 'absent',
    authorities: [],
  });
}

function observe(clients: Clients, listener = LISTEN): ObservedTraffic {
  const traffic = new ObservedTraffic();
  for (const [identities, rpcs] of clients) {
    const client = connect(traffic, identities, listener);
    for (const rpc of rpcs) client.called(rpcOf(rpc));
  }
  return traffic;
}

function suggestFor(traffic: ObservedTraffic, form: AllowForm = 'rpcs', includesDenied = false) {
  return suggest(traffic.report(1000), { form, includesDenied });
}

/** The rules for the only listener, and a function that decides by them. */
function rulesFor(clients: Clients, form: AllowForm = 'rpcs') {
  const [listener] = suggestFor(observe(clients), form).listeners;
  const rules = listener?.rules ?? [];
  const settings = rules.map(({ name, identities, allow }) => ({
    name,
    identities,
    allow,
    maxCalls: undefined,
    callsPerSecond: undefined,
  }));
  const policy = new Policy({ mode: 'enforce', readOnly: false, rules: settings }, TABLE);
  const allows = (identities: readonly string[], rpc: string): boolean => {
    const { service, method } = splitPath(rpc);
    return policy.decide(identities, service, method, 0).allowed;
  };
  return { rules, allows };
}

describe('the rules allow exactly the calls that were observed', () => {
  test.each<[string, Clients]>([
    [
      'clients with the same RPCs share a rule',
      [
        [
          ['dns:rails-1.internal', 'cn:rails'],
          [FIND, DELETE],
        ],
        [
          ['dns:rails-2.internal', 'cn:rails'],
          [DELETE, FIND],
        ],
        [['uri:spiffe://corp/indexer'], [FIND]],
        [[], [HEALTH]],
      ],
    ],
    [
      'a name that several clients have is not used',
      [
        [['dns:gitlab.internal', 'dns:a.internal'], [FIND]],
        [['dns:gitlab.internal', 'dns:b.internal'], [DELETE]],
        [['ou:gitlab', 'cn:c'], [TAGS]],
        [['ou:gitlab', 'cn:d'], [HEALTH]],
      ],
    ],
    [
      'a client whose names another one has as well comes after it',
      [
        [['dns:a.internal'], [FIND]],
        [['dns:a.internal', 'dns:b.internal'], [DELETE]],
      ],
    ],
    [
      'a name with a wildcard is not used while there is another',
      [
        [['dns:*.internal', 'cn:wild'], [DELETE]],
        [['dns:a.internal'], [FIND]],
      ],
    ],
    [
      'a name differs in case only',
      [
        [['dns:A.internal', 'cn:x'], [FIND]],
        [['dns:a.internal', 'cn:y'], [TAGS]],
      ],
    ],
  ])('%s', (_, clients) => {
    const { allows } = rulesFor(clients);
    for (const [identities, rpcs] of clients)
      for (const rpc of [FIND, TAGS, DELETE, HEALTH])
        expect([identities, rpc, allows(identities, rpc)]).toEqual([identities, rpc, rpcs.includes(rpc)]);
  });

  test('clients that no name distinguishes share a rule', () => {
    const clients: Clients = [
      [['dns:a', 'dns:b'], [FIND]],
      [['dns:b', 'dns:c'], [TAGS]],
      [['dns:c', 'dns:a'], [DELETE]],
    ];
    const { rules, allows } = rulesFor(clients);
    for (const [identities, rpcs] of clients)
      for (const rpc of rpcs) expect(allows(identities, rpc)).toBe(true);
    expect(rules.length).toBeLessThan(3);
  });
});

test('rules are named after what the names of their clients have in common', () => {
  const { rules } = rulesFor([
    [['dns:rails-1.internal'], [FIND]],
    [['dns:rails-2.internal'], [FIND]],
    [['uri:spiffe://corp/ns/gitlab/sa/rails'], [TAGS]],
    [['cn:none'], [DELETE]],
    [[], [HEALTH]],
  ]);
  expect(rules.map(({ name }) => name).sort()).toEqual(['none-2', 'rails', 'rails-2', 'without-certificate']);
});

test('services and operations replace RPCs only where they are asked for', () => {
  const clients: Clients = [[['dns:a'], [FIND, TAGS, DELETE, HEALTH]]];
  expect(rulesFor(clients).rules[0]?.allow).toEqual([DELETE, TAGS, FIND, HEALTH]);
  expect(rulesFor(clients, 'services').rules[0]?.allow).toEqual([
    'gitaly.RefService/*',
    'grpc.health.v1.Health/*',
  ]);
  // The health service has no operation.
  expect(rulesFor(clients, 'operations').rules[0]?.allow).toEqual(['accessor', HEALTH, 'mutator']);
});

test('RPCs whose calls were all denied or refused by the upstream get no rule', () => {
  const traffic = new ObservedTraffic();
  const scanner = connect(traffic, []);
  scanner.called(rpcOf(DELETE));
  scanner.refused(rpcOf(DELETE));
  const indexer = connect(traffic, ['dns:indexer']);
  indexer.called(rpcOf(FIND));
  indexer.called(rpcOf(DELETE));
  indexer.decided(rpcOf(DELETE), 'denied', 'indexer');
  const { listeners, notes } = suggestFor(traffic);
  expect(listeners).toMatchObject([{ rules: [{ identities: ['dns:indexer'], allow: [FIND] }] }]);
  expect(notes).toEqual([
    `${LISTEN}: RPCs whose calls were all denied are not included; --denied includes them.`,
  ]);
  expect(suggestFor(traffic, 'rpcs', true).listeners[0]?.rules[0]?.allow).toEqual([DELETE, FIND]);
});

test('an RPC that the table does not have is a comment, because the configuration may not name it', () => {
  const suggestion = suggestFor(observe([[['dns:a'], [FIND, NEW]]]));
  const yaml = asYaml(suggestion, '2026-01-01T00:00:00.000Z');
  expect(yaml).toContain(`# - "${NEW}" is an unknown RPC`);
  expect(parse(yaml)).toEqual({
    listeners: [
      {
        listen: LISTEN,
        policy: { mode: 'report', rules: [{ name: 'a', identities: ['dns:a'], allow: [FIND] }] },
      },
    ],
  });
});

test('a listener without TLS gets no rules, but a note', () => {
  const { listeners, notes } = suggestFor(observe([[[], [FIND]]], 'tcp://127.0.0.1:8075'));
  expect(listeners).toEqual([]);
  expect(notes).toEqual([expect.stringContaining('cannot have a policy')]);
});

test('names from certificates cannot leave their string in the YAML', () => {
  const name = 'cn:a"\\: # *x';
  const yaml = asYaml(suggestFor(observe([[[name], [FIND]]])), '2026-01-01T00:00:00.000Z');
  expect(parse(yaml)).toMatchObject({ listeners: [{ policy: { rules: [{ identities: [name] }] } }] });
});
