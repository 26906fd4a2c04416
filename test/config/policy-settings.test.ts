import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { stringify } from 'yaml';

import { loadConfiguration, type LoadResult } from '../../src/config/load.js';
import { formatProblem } from '../../src/config/problem.js';
import { kindOf, textOf } from '../support/path-kind.js';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'policy-'));
  writeFileSync(join(directory, 'ca.pem'), '');
  writeFileSync(
    join(directory, 'rpcs.tsv'),
    'method\ttype\toperation\ngitaly.NewService/New\tunary\taccessor\n',
  );
  writeFileSync(join(directory, 'broken.tsv'), 'method\ttype\toperation\ngitaly.New\tunary\taccessor\n');
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

const TLS = {
  certificate_path: 'cert.pem',
  key_path: 'key.pem',
  client_auth: 'require',
  client_ca_path: 'ca.pem',
};
const RULE = { identities: ['dns:rails.internal'], allow: ['*'] };

/** A file with one tls:// listener that verifies clients. */
function load(listener: object, more: object = {}): LoadResult {
  const pair = { listen: 'tls://0.0.0.0:9999', forward: 'tcp://127.0.0.1:8075', tls: TLS };
  const text = stringify({ listeners: [{ ...pair, ...listener }], ...more });
  return loadConfiguration(text, { file: 'proxy.yaml', directory, env: {}, kindOf, textOf });
}

function problems(listener: object, more: object = {}): string {
  const result = load(listener, more);
  return result.problems.map((problem) => formatProblem(problem, result)).join('\n');
}

test('a policy becomes the model, with defaults', () => {
  const { configuration, problems: found } = load(
    {
      client_allow: ['dns:**'],
      policy: {
        rules: [
          { name: 'rails', ...RULE },
          { identities: ['*'], allow: [], max_calls: 5, calls_per_second: { rate: 0.5 } },
        ],
      },
      upstream_token_path: 'token',
      upstream_metadata: { 'x-gitaly-client-identity': 'identity' },
    },
    { rpcs_path: 'rpcs.tsv', audit_log_path: 'audit.log', audit_required: true },
  );
  expect(found).toEqual([]);
  expect(configuration).toMatchObject({
    rpcs: [{ service: 'gitaly.NewService', method: 'New', type: 'unary', operation: 'accessor' }],
    audit: { log: { path: join(directory, 'audit.log') }, isRequired: true },
    listeners: [
      {
        clientAllow: ['dns:**'],
        policy: {
          mode: 'enforce',
          readOnly: false,
          rules: [
            { name: 'rails', ...RULE, maxCalls: undefined, callsPerSecond: undefined },
            {
              name: 'rules[1]',
              identities: ['*'],
              allow: [],
              maxCalls: 5,
              callsPerSecond: { perSecond: 0.5, burst: 1 },
            },
          ],
        },
        upstreamToken: { path: join(directory, 'token') },
        upstreamMetadata: [{ name: 'x-gitaly-client-identity', value: 'identity' }],
      },
    ],
  });
});

test('without these keys, nothing is restricted or added', () => {
  expect(load({}).configuration).toMatchObject({
    rpcs: [],
    audit: undefined,
    listeners: [
      { clientAllow: undefined, policy: undefined, upstreamToken: undefined, upstreamMetadata: [] },
    ],
  });
});

describe('an error names the key, the line, and what would be right:', () => {
  const rules = (...written: object[]) => ({ policy: { rules: written } });

  it.each<[string, object, string]>([
    [
      'an RPC that the table does not have',
      rules({ ...RULE, allow: ['gitaly.CommitService/FindComit'] }),
      'allow[0]: unknown RPC; did you mean "gitaly.CommitService/FindCommit"?',
    ],
    [
      'a service that the table does not have',
      rules({ ...RULE, allow: ['gitaly.ComitService/*'] }),
      'allow[0]: unknown service; did you mean "gitaly.CommitService/*"?',
    ],
    [
      'an RPC of a file that is not configured',
      rules({ ...RULE, allow: ['gitaly.NewService/New'] }),
      'add it to the file of `rpcs_path`',
    ],
    ['an operation that does not exist', rules({ ...RULE, allow: ['reader'] }), 'expected "service/Method"'],
    [
      'an identity without a kind',
      rules({ ...RULE, identities: ['rails.internal'] }),
      'such as "dns:rails.internal"',
    ],
    ['a rule without identities', rules({ allow: ['*'] }), 'rules[0].identities: missing: expected a list'],
    ['a rule without RPCs', rules({ identities: ['*'] }), 'rules[0].allow: missing: expected a list'],
    ['no rule', rules(), 'policy.rules: expected at least one entry'],
    [
      'a rule below one that names all',
      rules({ identities: ['*'], allow: ['*'] }, RULE),
      'rules[1].identities: the rule can never match, because listeners[0].policy.rules[0] already names all of its clients',
    ],
    ['a rule below one with the same identities', rules(RULE, RULE), 'the rule can never match'],
    [
      'two rules with one name',
      rules({ name: 'a', ...RULE }, { name: 'a', identities: ['*'], allow: ['*'] }),
      'another rule has this name',
    ],
    [
      'the name of no rule',
      rules({ name: 'none', ...RULE }),
      '`none` is the label of clients that no rule names',
    ],
    ['a name that is no label', rules({ name: 'a b', ...RULE }), 'expected at most 63 letters, digits'],
    ['a mode that does not exist', { policy: { mode: 'reports', rules: [RULE] } }, 'did you mean "report"?'],
    ['max_calls of 0', rules({ ...RULE, max_calls: 0 }), 'expected a whole number of at least 1'],
    [
      'a rate without its rate',
      rules({ ...RULE, calls_per_second: { burst: 1 } }),
      'calls_per_second.rate: missing',
    ],
    [
      'a policy on plaintext',
      { listen: 'tcp://0.0.0.0:9999', tls: undefined, ...rules({ identities: ['*'], allow: ['*'] }) },
      'policy: needs client certificates, but this listener is tcp://0.0.0.0:9999 without TLS',
    ],
    [
      'identities without client certificates',
      { tls: { certificate_path: 'cert.pem', key_path: 'key.pem' }, ...rules(RULE) },
      'needs client certificates: set `client_auth`',
    ],
    [
      'a policy without inspection',
      { inspect: false, ...rules(RULE) },
      'inspect: `policy` needs calls to be followed: remove `inspect: false`',
    ],
    [
      'a policy on a gate',
      { listen: 'https://0.0.0.0:8443', forward: 'http://127.0.0.1:8181', ...rules(RULE) },
      '`policy` is for gRPC calls, but this listener forwards HTTP from https://0.0.0.0:8443: use `client_allow`',
    ],
    ['client_allow of all', { client_allow: ['*'] }, '`client_allow` has no effect: remove `client_allow`'],
    ['client_allow of nobody', { client_allow: [] }, 'client_allow: expected at least one entry'],
    [
      'client_allow without client certificates',
      { tls: { certificate_path: 'cert.pem', key_path: 'key.pem' }, client_allow: ['cn:a'] },
      'client_allow: needs client certificates',
    ],
    ['a pseudo-header', { upstream_metadata: { ':path': 'identity' } }, 'a pseudo-header cannot be added'],
    ['a name in capitals', { upstream_metadata: { 'X-A': 'identity' } }, 'write x-a'],
    [
      'a field of gRPC',
      { upstream_metadata: { 'grpc-timeout': 'identity' } },
      'is reserved by gRPC or HTTP/2',
    ],
    ['the token', { upstream_metadata: { authorization: 'identity' } }, 'is reserved by gRPC or HTTP/2'],
    ['a field of the connection', { upstream_metadata: { te: 'identity' } }, 'is reserved by gRPC or HTTP/2'],
    ['a binary field', { upstream_metadata: { 'a-bin': 'identity' } }, 'names that end in -bin'],
    [
      'a field of clients',
      { upstream_metadata: { client_name: 'identity' } },
      'clients of Gitaly send this field',
    ],
    ['another value', { upstream_metadata: { a: 'token' } }, 'expected "identity"'],
  ])('%s', (_name, listener, message) => {
    expect(problems(listener)).toContain(message);
    expect(problems(listener)).toMatch(/^proxy\.yaml:\d+: /u);
  });

  it.each<[string, object, string]>([
    ['a table that is not there', { rpcs_path: 'none.tsv' }, 'rpcs_path: cannot read '],
    ['a malformed table', { rpcs_path: 'broken.tsv' }, 'line 2: the method "gitaly.New" is malformed'],
    ['audit_required alone', { audit_required: true }, 'audit_required: needs `audit_log_path`'],
  ])('%s', (_name, more, message) => {
    expect(problems({}, more)).toContain(message);
  });
});

test('a policy for all clients that only limits or is read-only needs no client certificates', () => {
  const tls = { certificate_path: 'cert.pem', key_path: 'key.pem' };
  const policy = { read_only: true, rules: [{ identities: ['*'], allow: ['*'] }] };
  expect(problems({ tls, policy })).toBe('');
});

test('an invalid pattern never makes a rule name or allow more', () => {
  const { understood } = load({
    policy: { rules: [{ identities: ['*', 'x'], allow: ['*', 'y'] }] },
    client_allow: ['cn:a', 'z'],
  });
  expect(understood?.listeners[0]).toMatchObject({
    clientAllow: ['cn:a'],
    policy: { rules: [{ identities: ['*'], allow: ['*'] }] },
  });
});
