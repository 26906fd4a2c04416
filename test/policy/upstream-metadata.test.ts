import { expect, test } from 'vitest';

import { gitalyAuthorization } from '../../src/gitaly-client/gitaly-token.js';
import { HpackDecoder } from '../../src/inspect/hpack/decoder.js';
import { FieldNames } from '../../src/inspect/hpack/field-names.js';
import type { CallJudge, JudgedCall } from '../../src/policy/call-judge.js';
import {
  CurrentMetadata,
  MetadataJudge,
  UpstreamToken,
  type UpstreamMetadata,
} from '../../src/policy/upstream-metadata.js';

const CALL: JudgedCall = {
  path: '/gitaly.RefService/FindLocalBranches',
  correlationId: undefined,
  hasAuthorization: false,
  reservedField: undefined,
};

const NAMES = ['authorization', 'x-gitaly-client-identity', 'x-client'];

/** Decodes a fragment as the upstream does; `name: value` of each field. */
function decoded(fragment: Buffer): string[] {
  const fields: string[] = [];
  const decoder = new HpackDecoder(new FieldNames(NAMES));
  decoder.decode(fragment, 0, fragment.length, {
    field: (id, value) => void fields.push(`${NAMES[id - 1] ?? 'unknown'}: ${value}`),
  });
  return fields;
}

function fieldsOf(judge: CallJudge, call: Partial<JudgedCall> = {}): string[] {
  const verdict = judge.judge({ ...CALL, ...call }, 0);
  if (verdict.kind === 'refuse') throw new Error(verdict.message);
  return decoded(verdict.fields);
}

const FORWARD: CallJudge = { judge: () => ({ kind: 'forward', fields: Buffer.alloc(0) }) };

function inEffect(metadata: Partial<UpstreamMetadata>): CurrentMetadata {
  const current = new CurrentMetadata();
  current.publish({ token: undefined, identityFields: [], ...metadata });
  return current;
}

function judgeOf(metadata: Partial<UpstreamMetadata>, identity?: string): MetadataJudge {
  return new MetadataJudge(FORWARD, inEffect(metadata), identity);
}

test('a call without authorization gets the token, and one with authorization keeps its own', () => {
  const judge = judgeOf({ token: new UpstreamToken(() => 'Bearer v2.x.1') });
  expect(fieldsOf(judge)).toEqual(['authorization: Bearer v2.x.1']);
  expect(fieldsOf(judge, { hasAuthorization: true })).toEqual([]);
  expect(fieldsOf(judge)).toEqual(['authorization: Bearer v2.x.1']);
});

test('the token is signed anew when the second changes, also backwards, and not more often', () => {
  let nowMs = 10_000;
  const signed: number[] = [];
  const token = new UpstreamToken(
    (unixMs) => {
      signed.push(unixMs);
      return gitalyAuthorization('secret', unixMs);
    },
    () => nowMs,
  );
  const judge = judgeOf({ token });
  const [first] = fieldsOf(judge);
  expect(first).toMatch(/^authorization: Bearer v2\.[0-9a-f]{64}\.10$/u);
  for (nowMs = 10_001; nowMs < 11_000; nowMs += 100) expect(fieldsOf(judge)).toEqual([first]);
  expect(signed).toEqual([10_000]);
  nowMs = 11_000;
  expect(fieldsOf(judge)).toEqual([`authorization: ${gitalyAuthorization('secret', 11_000)}`]);
  nowMs = 5000;
  expect(fieldsOf(judge)).toEqual([`authorization: ${gitalyAuthorization('secret', 5000)}`]);
  expect(signed).toEqual([10_000, 11_000, 5000]);
});

test('the identity is added percent-encoded, and nothing without an identity', () => {
  const identityFields = ['x-gitaly-client-identity', 'x-client'];
  expect(fieldsOf(judgeOf({ identityFields }, 'rails-1.gitlab.internal'))).toEqual([
    'x-gitaly-client-identity: rails-1.gitlab.internal',
    'x-client: rails-1.gitlab.internal',
  ]);
  expect(fieldsOf(judgeOf({ identityFields }, ' CN=Zoë 100% '))).toEqual([
    'x-gitaly-client-identity: %20CN=Zo%C3%AB%20100%25%20',
    'x-client: %20CN=Zo%C3%AB%20100%25%20',
  ]);
  expect(fieldsOf(judgeOf({ identityFields }))).toEqual([]);
});

test('every field is a literal that is never indexed, so no table of HPACK changes', () => {
  const judge = judgeOf(
    { token: new UpstreamToken(() => 'x'.repeat(300)), identityFields: ['x-client'] },
    'a',
  );
  const verdict = judge.judge(CALL, 0);
  if (verdict.kind === 'refuse') throw new Error(verdict.message);
  const second = verdict.fields.indexOf('x-client', 0, 'latin1') - 2;
  expect([verdict.fields[0], verdict.fields[second]]).toEqual([0x10, 0x10]);
  expect(decoded(verdict.fields)).toEqual([`authorization: ${'x'.repeat(300)}`, 'x-client: a']);
});

test('within a second, each call of a connection gets the same buffer', () => {
  const token = new UpstreamToken(
    () => 'x',
    () => 0,
  );
  const judge = judgeOf({ token, identityFields: ['x-client'] }, 'a');
  const [one, other] = [judge.judge(CALL, 0), judge.judge(CALL, 1)];
  expect(one.kind === 'forward' && other.kind === 'forward' && one.fields === other.fields).toBe(true);
});

test('a call that has a field of upstream_metadata is refused, before the policy counts it', () => {
  let asked = 0;
  const inner: CallJudge = {
    judge: () => {
      asked++;
      return { kind: 'forward', fields: Buffer.alloc(0) };
    },
  };
  const judge = new MetadataJudge(inner, inEffect({ identityFields: ['x-client'] }), 'rails');
  expect(judge.judge({ ...CALL, reservedField: 'x-client' }, 0)).toMatchObject({
    kind: 'refuse',
    code: 7,
    message: expect.stringContaining('x-client') as string,
  });
  expect(asked).toBe(0);
});

test('what the policy refuses is refused, and the end of an allowed call is reported to it', () => {
  const refusal = { kind: 'refuse', code: 7, message: 'no' } as const;
  const metadata = inEffect({ token: new UpstreamToken(() => 'x') });
  expect(new MetadataJudge({ judge: () => refusal }, metadata, 'a').judge(CALL, 0)).toBe(refusal);
  const ended = (): void => undefined;
  const permit = new MetadataJudge(
    { judge: () => ({ kind: 'forward', fields: Buffer.alloc(0), ended }) },
    metadata,
    'a',
  ).judge(CALL, 0);
  expect(permit).toMatchObject({ kind: 'forward', ended });
});

test('a reload applies to the next call of an open connection', () => {
  const current = inEffect({ token: new UpstreamToken(() => 'old') });
  const judge = new MetadataJudge(FORWARD, current, 'a');
  expect(fieldsOf(judge)).toEqual(['authorization: old']);
  current.publish({ token: new UpstreamToken(() => 'new'), identityFields: ['x-client'] });
  expect(fieldsOf(judge)).toEqual(['authorization: new', 'x-client: a']);
  current.publish({ token: undefined, identityFields: ['x-client'] });
  expect(fieldsOf(judge)).toEqual(['x-client: a']);
});
