import { describe, expect, it, test } from 'vitest';

import { CallLimits } from '../../src/policy/call-limits.js';
import { Policy, splitPath, type PolicySettings, type RuleSettings } from '../../src/policy/policy.js';
import { RpcTable } from '../../src/policy/rpc-table.js';
import { isPrintable } from '../../src/printable.js';

const TABLE = new RpcTable([]);
const RAILS = ['dns:rails-1.internal'];
const READER = ['uri:spiffe://corp/indexer', 'dns:indexer.internal'];

function rule(settings: Partial<RuleSettings>): RuleSettings {
  return {
    name: 'rule',
    identities: ['*'],
    allow: ['*'],
    maxCalls: undefined,
    callsPerSecond: undefined,
    ...settings,
  };
}

function policyOf(
  rules: readonly Partial<RuleSettings>[],
  settings: Partial<PolicySettings> = {},
  limits?: CallLimits,
): Policy {
  return new Policy({ mode: 'enforce', readOnly: false, ...settings, rules: rules.map(rule) }, TABLE, limits);
}

function decide(policy: Policy, identities: readonly string[], rpc: string, nowMs = 0) {
  const { service, method } = splitPath(`/${rpc}`);
  return policy.decide(identities, service, method, nowMs);
}

describe('the first rule that names the client decides', () => {
  const policy = policyOf([
    { name: 'rails', identities: ['dns:rails-*.internal'] },
    { name: 'indexer', identities: ['dns:indexer.internal'], allow: ['accessor', 'grpc.health.v1.Health/*'] },
    { name: 'anyone', allow: ['grpc.health.v1.Health/Check'] },
  ]);

  it.each([
    [RAILS, 'gitaly.RepositoryService/RemoveRepository', true, 'rails'],
    [RAILS, 'no.Such/Rpc', true, 'rails'],
    [READER, 'gitaly.CommitService/FindCommit', true, 'indexer'],
    [READER, 'grpc.health.v1.Health/Watch', true, 'indexer'],
    [READER, 'gitaly.RefService/DeleteRefs', false, 'indexer'],
    [READER, 'gitaly.RepositoryService/OptimizeRepository', false, 'indexer'],
    [READER, 'no.Such/Rpc', false, 'indexer'],
    // It has no operation, so only its name allows it.
    [READER, 'gitaly.ServerService/ServerInfo', false, 'indexer'],
    [[], 'grpc.health.v1.Health/Check', true, 'anyone'],
    [['cn:stranger'], 'grpc.health.v1.Health/Check', true, 'anyone'],
    [[], 'grpc.health.v1.Health/Watch', false, 'anyone'],
  ] as const)('%j calls %s: %s, by %s', (identities, rpc, allowed, by) => {
    expect(decide(policy, identities, rpc)).toMatchObject({ allowed, rule: by });
  });
});

test('a client that no rule names is refused, and the message names client, RPC and fix', () => {
  const policy = policyOf([{ identities: ['dns:rails.internal'] }]);
  const { allowed, rule: by, refusal } = decide(policy, READER, 'gitaly.CommitService/FindCommit');
  expect({ allowed, by }).toEqual({ allowed: false, by: 'none' });
  expect(refusal).toMatchObject({ kind: 'refuse', code: 7 });
  expect(refusal?.message).toBe(
    'gitaly-tls-proxy: uri:spiffe://corp/indexer may not call gitaly.CommitService/FindCommit (accessor): ' +
      'no rule of the policy names this client; fix: add a rule with its identity and this RPC to `policy`',
  );
});

test('a refusal by a rule names the rule, and the identity that it names', () => {
  const policy = policyOf([{ name: 'indexer', identities: ['dns:indexer.*'], allow: ['accessor'] }]);
  const { refusal, identity } = decide(policy, READER, 'gitaly.RefService/DeleteRefs');
  expect(identity).toBe('dns:indexer.internal');
  expect(refusal?.code).toBe(7);
  expect(refusal?.message).toContain(
    'dns:indexer.internal may not call gitaly.RefService/DeleteRefs (mutator): rule "indexer" does not allow it; fix: ',
  );
});

test('an unknown RPC is a mutator', () => {
  const decision = decide(policyOf([{ allow: ['mutator'] }]), RAILS, 'gitaly.NewService/New');
  expect(decision).toMatchObject({ allowed: true, operation: 'mutator', isKnown: false });
  expect(decide(policyOf([{ allow: ['accessor'] }]), RAILS, 'gitaly.NewService/New').allowed).toBe(false);
});

test('an RPC of rpcs_path is known, and overrides the built-in one', () => {
  const table = new RpcTable([
    { service: 'gitaly.NewService', method: 'Read', type: 'unary', operation: 'accessor' },
    { service: 'gitaly.CommitService', method: 'FindCommit', type: 'unary', operation: 'mutator' },
  ]);
  const policy = new Policy(
    { mode: 'enforce', readOnly: false, rules: [rule({ allow: ['accessor'] })] },
    table,
  );
  expect(decide(policy, [], 'gitaly.NewService/Read').allowed).toBe(true);
  expect(decide(policy, [], 'gitaly.CommitService/FindCommit').allowed).toBe(false);
});

test('read_only refuses mutators, maintenance and unknown RPCs of all clients, and no others', () => {
  const policy = policyOf([{}], { readOnly: true });
  for (const rpc of [
    'gitaly.RefService/DeleteRefs',
    'gitaly.RepositoryService/OptimizeRepository',
    'gitaly.NewService/New',
  ])
    expect(decide(policy, RAILS, rpc).refusal?.code).toBe(9);
  for (const rpc of [
    'gitaly.CommitService/FindCommit',
    'grpc.health.v1.Health/Check',
    'gitaly.RefTransaction/VoteTransaction',
  ])
    expect(decide(policy, RAILS, rpc).allowed).toBe(true);
});

test('a client that may not call an RPC at all is not told to try again later', () => {
  const policy = policyOf([{ allow: ['accessor'] }], { readOnly: true });
  expect(decide(policy, RAILS, 'gitaly.RefService/DeleteRefs').refusal?.code).toBe(7);
});

test('max_calls counts the calls in flight of each identity', () => {
  const policy = policyOf([{ maxCalls: 2 }]);
  const call = (identities: readonly string[]) =>
    decide(policy, identities, 'gitaly.CommitService/FindCommit');
  const first = call(RAILS);
  expect(call(RAILS).allowed).toBe(true);
  const third = call(RAILS);
  expect(third.refusal?.code).toBe(8);
  expect(third.refusal?.message).toContain('max_calls (2) of rule "rule" exceeded');
  expect(call(['dns:rails-2.internal']).allowed).toBe(true);
  first.ended?.();
  first.ended?.();
  expect(call(RAILS).allowed).toBe(true);
  expect(call(RAILS).allowed).toBe(false);
});

test('clients without an identity share the limits of their rule', () => {
  const policy = policyOf([{ maxCalls: 1 }]);
  expect(decide(policy, [], 'grpc.health.v1.Health/Check').allowed).toBe(true);
  expect(decide(policy, [], 'grpc.health.v1.Health/Check').allowed).toBe(false);
});

test('calls_per_second is a token bucket for each identity, and a refused call takes no token', () => {
  const policy = policyOf([{ callsPerSecond: { perSecond: 10, burst: 2 } }]);
  const call = (nowMs: number) => decide(policy, RAILS, 'gitaly.CommitService/FindCommit', nowMs);
  expect([call(0), call(0), call(0), call(0)].map(({ allowed }) => allowed)).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect(call(50).refusal?.code).toBe(8);
  expect(call(100).allowed).toBe(true);
  expect(call(100).refusal?.message).toContain('calls_per_second (rate 10, burst 2) of rule "rule" exceeded');
});

test('calls in flight remain counted when a reload replaces the policy', () => {
  const limits = new CallLimits();
  const before = decide(policyOf([{ maxCalls: 1 }], {}, limits), RAILS, 'gitaly.CommitService/FindCommit');
  const next = policyOf([{ maxCalls: 1 }], {}, limits);
  expect(decide(next, RAILS, 'gitaly.CommitService/FindCommit').allowed).toBe(false);
  before.ended?.();
  expect(decide(next, RAILS, 'gitaly.CommitService/FindCommit').allowed).toBe(true);
});

test('a message contains nothing that a terminal interprets, and is short, whatever the client sends', () => {
  const policy = policyOf([{ identities: ['dns:rails.internal'] }]);
  const decision = decide(policy, [`cn:${'x'.repeat(2000)}`], `a\u001b[2J\n\u202e${'y'.repeat(100_000)}/z`);
  expect(isPrintable(decision.refusal?.message ?? '\n')).toBe(true);
  expect(decision.refusal?.message.length).toBeLessThan(700);
});

describe('a path is split as grpc-go does', () => {
  it.each([
    ['/a.B/C', 'a.B', 'C'],
    ['a.B/C', 'a.B', 'C'],
    ['//a.B/C', '/a.B', 'C'],
    ['/a/b/C', 'a/b', 'C'],
    ['/a.B/C?x', 'a.B', 'C?x'],
    ['/C', '', 'C'],
    ['', '', ''],
  ])('%j', (path, service, method) => {
    expect(splitPath(path)).toEqual({ service, method });
  });
});
