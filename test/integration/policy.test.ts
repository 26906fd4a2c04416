import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { Authority, type Issued } from '../support/authority.js';
import { startGrpcBackend } from '../support/backends.js';
import { ALLOWED, presenting, requiring, startGate } from '../support/gate.js';
import { GrpcClient } from '../support/grpc-client.js';
import type { ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER, type Setup } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const DECISIONS = 'gitaly_tls_proxy_policy_decisions_total';
const CERTIFICATES = 'gitaly_tls_proxy_tls_client_certificates_total';
const RELOADS = 'gitaly_tls_proxy_tls_reloads_total';
const DEMO = 'gitaly_tls_proxy.demo.DemoService';
const MESSAGE = Buffer.from('a message');
const MIB = Buffer.alloc(1_048_576, 'x');

const RAILS_AND_INDEXER = [
  { name: 'rails', identities: ['dns:rails-*.internal'], allow: ['*'] },
  { name: 'indexer', identities: ['dns:indexer.internal'], allow: ['accessor', 'grpc.health.v1.Health/*'] },
];

interface PolicySetup extends Setup {
  readonly rails: GrpcClient;
  readonly indexer: GrpcClient;
  /** Writes the listener's policy anew and has it applied. */
  readonly reload: (policy: object | undefined) => Promise<void>;
  readonly clientOf: (issued?: Issued) => GrpcClient;
}

/** Of the demo's RPCs, two are accessors and one is a mutator. */
const RPCS = [
  'method\ttype\toperation',
  `${DEMO}/Echo\tunary\taccessor`,
  `${DEMO}/Repeat\tserver_stream\taccessor`,
  `${DEMO}/Count\tclient_stream\tmutator`,
].join('\n');

/** A proxy with a policy, and two clients with a connection each. */
async function startPolicy(
  policy: object | undefined,
  { tls = {}, listener = {}, rpcs = RPCS }: { tls?: object; listener?: object; rpcs?: string } = {},
): Promise<PolicySetup> {
  const backend = await startGrpcBackend();
  const rpcsPath = join(await temporaryDirectory(), 'rpcs.tsv');
  await writeFile(rpcsPath, rpcs);
  const setup = await startSetup((ca) => ({
    tls: { client_ca_path: ca.caPath, client_auth: 'require', ...tls },
    listener: { forward: backend, ...(policy && { policy }), ...listener },
    more: { rpcs_path: rpcsPath },
  }));
  const { ca, proxy, configuration } = setup;
  const address = await proxy.address(TLS_LISTENER);
  const clientOf = (issued?: Issued): GrpcClient =>
    new GrpcClient(address, {
      ca: ca.caPem,
      ...(issued && { certificate: issued.certificatePem, key: issued.keyPem }),
    });
  const named = async (name: string): Promise<GrpcClient> => clientOf(await ca.client({ dns: [name] }));
  return {
    ...setup,
    rails: await named('rails-1.internal'),
    indexer: await named('INDEXER.internal'),
    clientOf,
    async reload(next) {
      const [first] = configuration.listeners;
      await proxy.configure({
        ...configuration,
        listeners: [{ ...first, policy: next }],
      });
      const before = (await proxy.scrape()).value(RELOADS);
      proxy.signal('SIGHUP');
      await proxy.scrapeUntil((scrape) => scrape.value(RELOADS) > before);
    },
  };
}

async function closeAll(proxy: ProxyProcess, ...clients: readonly GrpcClient[]): Promise<void> {
  for (const client of clients) client.close();
  await proxy.endsWithNothingLeaked();
}

describe('a policy in mode enforce', () => {
  test('forwards what it allows, refuses the rest with the reason, and leaves the connection as it is', async () => {
    const { proxy, rails, indexer } = await startPolicy({ rules: RAILS_AND_INDEXER });
    expect(await rails.count([MESSAGE, MESSAGE])).toBe(18);
    expect(await indexer.echo(MESSAGE)).toEqual(MESSAGE);
    // With content, streaming, several times, in a mix: on one connection.
    for (const messages of [[], [MESSAGE], [MIB, MIB, MIB]]) {
      await expect(indexer.count(messages)).rejects.toMatchObject({
        code: status.PERMISSION_DENIED,
        details:
          `gitaly-tls-proxy: dns:indexer.internal may not call ${DEMO}/Count (mutator): rule "indexer" does not allow it; ` +
          'fix: add the RPC to `allow` of this rule, or use an identity that may call it',
      });
      expect(await indexer.repeat(MESSAGE)).toHaveLength(10);
    }
    const scrape = await proxy.scrape();
    expect(scrape.value(DECISIONS, { rule: 'rails', decision: 'allowed' })).toBe(1);
    expect(scrape.value(DECISIONS, { rule: 'indexer', decision: 'allowed' })).toBe(4);
    expect(scrape.value(DECISIONS, { rule: 'indexer', decision: 'denied' })).toBe(3);
    expect(scrape.value('gitaly_tls_proxy_connections_total', { protocol: 'http2' })).toBe(2);
    const line = await proxy.log.waitForEvent('call_refused');
    expect(line).toMatchObject({
      level: 'warning',
      'peer.identity': 'indexer.internal',
      'policy.rule': 'indexer',
      'policy.identity': 'dns:indexer.internal',
      'grpc.service': DEMO,
      'grpc.method': 'Count',
      'grpc.code': 'PermissionDenied',
      count: 1,
    });
    await closeAll(proxy, rails, indexer);
    expect(proxy.log.text.match(/"call_refused"/gu)).toHaveLength(1);
  });

  test('refuses a client that no rule names, and one without a certificate', async () => {
    const { proxy, ca, clientOf, rails, indexer } = await startPolicy(
      { rules: RAILS_AND_INDEXER },
      { tls: { client_auth: 'optional' } },
    );
    const stranger = clientOf(await ca.client({ dns: ['stranger.internal'] }));
    await expect(stranger.health()).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
      details: expect.stringContaining(
        'dns:stranger.internal may not call grpc.health.v1.Health/Check',
      ) as string,
    });
    const nameless = clientOf();
    await expect(nameless.health()).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
      details: expect.stringContaining('a client without an identity may not call') as string,
    });
    expect((await proxy.scrape()).value(DECISIONS, { rule: 'none', decision: 'denied' })).toBe(2);
    await closeAll(proxy, stranger, nameless, rails, indexer);
  });

  test('treats an RPC that the table does not have as a mutator, and counts it', async () => {
    const { proxy, rails, indexer } = await startPolicy(
      { rules: RAILS_AND_INDEXER },
      { rpcs: 'method\ttype\toperation\n' },
    );
    await expect(indexer.echo(MESSAGE)).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
      details: expect.stringContaining(`${DEMO}/Echo (an unknown RPC, so a mutator)`) as string,
    });
    expect(await rails.echo(MESSAGE)).toEqual(MESSAGE);
    expect((await proxy.scrape()).value('gitaly_tls_proxy_rpcs_unknown_total')).toBe(2);
    await closeAll(proxy, rails, indexer);
  });

  test('max_calls bounds the calls in flight of an identity, and not those of others', async () => {
    const { proxy, rails, indexer } = await startPolicy({
      rules: [{ identities: ['dns:**'], allow: ['*'], max_calls: 1 }],
    });
    const held = await rails.repeatUnread(MIB);
    await expect(rails.echo(MESSAGE)).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringContaining('max_calls (1) of rule "rules[0]" exceeded') as string,
    });
    expect(await indexer.echo(MESSAGE)).toEqual(MESSAGE);
    expect(await held.rest()).toBe(10);
    expect(await rails.echo(MESSAGE)).toEqual(MESSAGE);
    await closeAll(proxy, rails, indexer);
  });

  test('calls_per_second bounds the rate of calls', async () => {
    const { proxy, rails, indexer } = await startPolicy({
      rules: [{ identities: ['dns:**'], allow: ['*'], calls_per_second: { rate: 0.001, burst: 2 } }],
    });
    expect(await rails.echo(MESSAGE)).toEqual(MESSAGE);
    expect(await rails.echo(MESSAGE)).toEqual(MESSAGE);
    await expect(rails.echo(MESSAGE)).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    expect(await indexer.echo(MESSAGE)).toEqual(MESSAGE);
    await closeAll(proxy, rails, indexer);
  });
});

describe('a reload applies to the next call of open connections', () => {
  test('of another rule, and of read_only, which lets calls in flight finish', async () => {
    const { proxy, rails, indexer, reload } = await startPolicy({ rules: RAILS_AND_INDEXER });
    const held = await rails.repeatUnread(MIB);
    await expect(indexer.count([MESSAGE])).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await reload({ rules: [{ name: 'all', identities: ['*'], allow: ['*'] }] });
    expect(await indexer.count([MESSAGE])).toBe(9);
    await reload({ rules: [{ name: 'all', identities: ['*'], allow: ['*'] }], read_only: true });
    await expect(rails.count([MESSAGE])).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: expect.stringContaining('Gitaly is read-only') as string,
    });
    expect(await rails.echo(MESSAGE)).toEqual(MESSAGE);
    expect(await rails.health()).toEqual(HEALTH_SERVING);
    expect(await held.rest()).toBe(10);
    // All of this happened on two connections.
    expect((await proxy.scrape()).value('gitaly_tls_proxy_connections_total', { protocol: 'http2' })).toBe(2);
    await closeAll(proxy, rails, indexer);
  });

  test('a policy that cannot be loaded changes nothing', async () => {
    const { proxy, rails, indexer, reload } = await startPolicy({ rules: RAILS_AND_INDEXER });
    expect(await rails.count([MESSAGE])).toBe(9);
    await reload({ rules: [{ identities: ['*'], allow: ['gitaly.CommitService/FindComit'] }] });
    const line = await proxy.log.waitForEvent('reload_failed');
    expect(line['error']).toMatch(/did you mean "gitaly\.CommitService\/FindCommit"/u);
    expect(await rails.count([MESSAGE])).toBe(9);
    await expect(indexer.count([MESSAGE])).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await reload({ rules: RAILS_AND_INDEXER });
    await closeAll(proxy, rails, indexer);
  });

  test('connections that began without a policy are drained when the listener gets one', async () => {
    const { proxy, rails, indexer, reload } = await startPolicy(undefined);
    expect(await indexer.count([MESSAGE])).toBe(9);
    await reload({ rules: RAILS_AND_INDEXER });
    await proxy.log.waitForEvent('connection_closed');
    await expect(indexer.count([MESSAGE])).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await closeAll(proxy, rails, indexer);
  });
});

test('a policy in mode report refuses nothing, counts what it would refuse, and logs the first of each', async () => {
  const { proxy, rails, indexer } = await startPolicy({ mode: 'report', rules: RAILS_AND_INDEXER });
  for (let calls = 0; calls < 3; calls++) expect(await indexer.count([MESSAGE])).toBe(9);
  expect(await rails.count([MESSAGE])).toBe(9);
  const scrape = await proxy.scrape();
  expect(scrape.value(DECISIONS, { rule: 'indexer', decision: 'would_deny' })).toBe(3);
  expect(scrape.value(DECISIONS, { decision: 'denied' })).toBe(0);
  const line = await proxy.log.waitForEvent('call_would_be_refused');
  expect(line).toMatchObject({ 'policy.rule': 'indexer', 'grpc.method': 'Count', count: 1 });
  await closeAll(proxy, rails, indexer);
  expect(proxy.log.text.match(/"call_would_be_refused"/gu)).toHaveLength(1);
});

describe('client_allow', () => {
  test('refuses a gRPC client that it does not name, with PERMISSION_DENIED and the reason', async () => {
    const { proxy, rails, indexer } = await startPolicy(undefined, {
      listener: { client_allow: ['dns:rails-*.internal'] },
    });
    expect(await rails.health()).toEqual(HEALTH_SERVING);
    await expect(indexer.health()).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
      details: expect.stringContaining(
        'client_allow names none of the identities of the client: dns:indexer.internal',
      ) as string,
    });
    const line = await proxy.log.waitForClose('client_not_allowed');
    expect(line).toMatchObject({ level: 'warning', 'peer.identity': 'indexer.internal' });
    expect((await proxy.scrape()).value(CERTIFICATES, { result: 'not_allowed' })).toBeGreaterThan(0);
    await closeAll(proxy, rails, indexer);
  });

  test('refuses a client of an https:// gate that it does not name', async () => {
    const gate = await startGate((ca) => ({
      ...requiring(ca),
      listener: { client_allow: ['cn:gitaly-*'] },
    }));
    const ask = async (commonName: string) =>
      gate.ask(ALLOWED, presenting(await gate.ca.client({ commonName })));
    expect((await ask('gitaly-a')).status).toBe(200);
    expect((await ask('stranger')).status).toBe(403);
    await gate.proxy.log.waitForClose('client_not_allowed');
    expect(gate.backend.requests).toHaveLength(1);
    await gate.endsWithNothingLeaked();
  });
});

describe('client_auth: report', () => {
  test('admits a client whose certificate would be refused, without an identity, counts it and logs it', async () => {
    const { proxy, ca, clientOf, rails, indexer } = await startPolicy(
      {
        rules: [
          ...RAILS_AND_INDEXER,
          { name: 'anyone', identities: ['*'], allow: ['grpc.health.v1.Health/Check'] },
        ],
      },
      { tls: { client_auth: 'report' } },
    );
    expect(await rails.count([MESSAGE])).toBe(9);
    const other = await Authority.create(await temporaryDirectory(), 'other');
    const dns = ['rails-1.internal'];
    const clients = [
      clientOf(),
      clientOf(await ca.client({ dns, notAfter: new Date(Date.now() - 60_000) })),
      clientOf(await other.client({ dns })),
    ];
    for (const client of clients) {
      expect(await client.health()).toEqual(HEALTH_SERVING);
      await expect(client.count([MESSAGE])).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    }
    const scrape = await proxy.scrape();
    for (const result of [
      'verified',
      'would_refuse_absent',
      'would_refuse_expired',
      'would_refuse_unknown_authority',
    ])
      expect(scrape.value(CERTIFICATES, { result }), result).toBe(1);
    for (const result of ['absent', 'expired', 'unknown_authority'])
      expect(await proxy.log.waitForEvent('client_would_be_refused', { result })).toMatchObject({ count: 1 });
    await closeAll(proxy, ...clients, rails, indexer);
  });
});
