import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { rehearse, type Rehearsal } from '../../../src/commands/rehearse/rehearse.js';
import { loadConfiguration } from '../../../src/config/load.js';
import {
  ObservedTraffic,
  type ClientProperties,
  type ObservedRpc,
} from '../../../src/policy/observed-traffic.js';
import { kindOf, textOf } from '../../support/path-kind.js';

const LISTEN = 'tls://0.0.0.0:9999';
const FIND: ObservedRpc = { service: 'gitaly.RefService', method: 'FindBranch', operation: 'accessor' };
const DELETE: ObservedRpc = { service: 'gitaly.RefService', method: 'DeleteRefs', operation: 'mutator' };
const OLD_CA = { name: 'CN=old', key_sha256: 'aa' };
const NEW_CA = { name: 'CN=new', key_sha256: 'bb' };

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'rehearse-'));
  writeFileSync(join(directory, 'ca.pem'), '');
});

afterAll(() => rmSync(directory, { recursive: true }));

/** A client with a certificate of the old CA. */
const RAILS: Partial<ClientProperties> = {
  identities: ['dns:rails-1.internal'],
  certificate: 'verified',
  authorities: [OLD_CA],
};

/** Rehearses a new file with `settings` in its listener, after a client has called FindBranch, and what `observe` adds. */
function rehearseWith(
  client: Partial<ClientProperties>,
  settings: string,
  observe: (traffic: ObservedTraffic) => void = () => undefined,
  authorities = [OLD_CA],
): Rehearsal {
  const traffic = new ObservedTraffic();
  traffic.connected({ ...ABSENT, ...client }).called(FIND);
  observe(traffic);
  const forward = settings.includes('forward_by') ? '' : 'forward: tcp://127.0.0.1:8075,';
  const text = `{ tls: { certificate_path: c.pem, key_path: k.pem }, listeners: [{ listen: "${LISTEN}", ${forward} ${settings} }] }`;
  const { configuration, problems } = loadConfiguration(text, {
    file: 'new.yaml',
    directory,
    env: {},
    kindOf,
    textOf,
  });
  if (!configuration) throw new Error(JSON.stringify(problems));
  return rehearse(traffic.report(100), { configuration, authorities: new Map([[LISTEN, authorities]]) });
}

const ABSENT: ClientProperties = {
  listener: LISTEN,
  identities: [],
  tls_version: 'TLSv1.3',
  server_name: null,
  certificate: 'absent',
  authorities: [],
};

function tls(clientAuth: string): string {
  return `tls: { client_auth: ${clientAuth}, client_ca_path: ca.pem }`;
}

const NOTHING = { refused: [], reported: [] };

test.each<[string, Partial<ClientProperties>, string]>([
  ['no TLS version below min_version', { tls_version: 'TLSv1.2' }, 'tls: { min_version: "TLS 1.2" }'],
  [
    'a name with a route',
    { server_name: 'a.internal' },
    'forward_by_server_name: { "*.internal": tcp://127.0.0.1:1 }',
  ],
  ['no name, and a default', { server_name: null }, 'forward_by_server_name: { default: tcp://127.0.0.1:1 }'],
  ['a certificate of a CA that stays', RAILS, tls('require')],
  ['no certificate under optional', {}, tls('optional')],
  ['an identity of client_allow', RAILS, `${tls('require')}, client_allow: ["dns:rails-*.internal"]`],
  [
    'an RPC of its rule',
    RAILS,
    `${tls('require')}, policy: { rules: [{ identities: ["dns:rails-*.internal"], allow: [accessor] }] }`,
  ],
  ['a certificate that is no longer requested', { ...RAILS, authorities: [] }, 'tls: { client_auth: none }'],
])('nothing is refused: %s', (_, client, settings) => {
  expect(rehearseWith(client, settings)).toEqual(NOTHING);
});

describe('is refused', () => {
  test.each<[string, Partial<ClientProperties>, string, string]>([
    ['a removed listener', { listener: 'tls://0.0.0.0:9998' }, tls('optional'), 'listen'],
    [
      'a client below min_version',
      { tls_version: 'TLSv1.2' },
      'tls: { min_version: "TLS 1.3" }',
      'min_version',
    ],
    [
      'a name without a route',
      { server_name: 'b.internal' },
      'forward_by_server_name: { a.internal: tcp://127.0.0.1:1 }',
      'forward_by_server_name',
    ],
    ['no certificate', {}, tls('require'), 'client_auth'],
    ['a certificate that was not requested', { certificate: 'not_requested' }, tls('require'), 'client_auth'],
    ['an expired certificate', { certificate: 'expired' }, tls('optional'), 'client_auth'],
    ['a certificate of a removed CA', { ...RAILS, authorities: [NEW_CA] }, tls('require'), 'client_ca_path'],
    [
      'a certificate of a CA whose name another CA has now',
      { ...RAILS, authorities: [{ ...OLD_CA, key_sha256: 'cc' }] },
      tls('optional'),
      'client_ca_path',
    ],
    [
      'an identity that client_allow does not name',
      RAILS,
      `${tls('require')}, client_allow: ["dns:x"]`,
      'client_allow',
    ],
    [
      'a client without certificate under client_allow',
      {},
      `${tls('optional')}, client_allow: ["dns:x"]`,
      'client_allow',
    ],
  ])('%s', (_, client, settings, reason) => {
    expect(rehearseWith(client, settings)).toMatchObject({
      refused: [{ reason, rpc: null, connections: 1, calls: 1 }],
      reported: [],
    });
  });

  test('a call that the policy denies, whatever rate it had', () => {
    const rules = 'rules: [{ identities: ["dns:rails-*.internal"], allow: [accessor], max_calls: 1 }]';
    const observe = (traffic: ObservedTraffic): void => {
      const rails = traffic.connected({ ...ABSENT, ...RAILS });
      for (let made = 0; made < 5; made++) rails.called(FIND);
      rails.called(DELETE);
    };
    expect(rehearseWith(RAILS, `${tls('require')}, policy: { ${rules} }`, observe)).toMatchObject({
      refused: [{ reason: 'policy', rpc: 'gitaly.RefService/DeleteRefs', calls: 1 }],
      reported: [],
    });
  });
});

test('a certificate of a CA that the new file adds is no longer refused', () => {
  const client = { certificate: 'unknown_authority', authorities: [NEW_CA] };
  expect(rehearseWith(client, tls('require'), undefined, [OLD_CA, NEW_CA])).toEqual(NOTHING);
  expect(rehearseWith(client, tls('require')).refused).toHaveLength(1);
});

test('what is only reported does not count as refused', () => {
  const rules = 'mode: report, rules: [{ identities: ["dns:rails-*.internal"], allow: [] }]';
  expect(rehearseWith({}, `${tls('report')}, policy: { ${rules} }`)).toMatchObject({
    refused: [],
    reported: [{ reason: 'client_auth' }, { reason: 'policy' }],
  });
});

test('calls that are refused today are not reported again', () => {
  const observe = (traffic: ObservedTraffic): void => {
    const scanner = traffic.connected(ABSENT);
    scanner.called(DELETE);
    scanner.decided(DELETE, 'denied', 'none');
  };
  const rules = 'rules: [{ identities: ["*"], allow: [accessor] }]';
  expect(rehearseWith({}, `policy: { ${rules} }`, observe)).toEqual(NOTHING);
});
