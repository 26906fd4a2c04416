import { describe, expect, test } from 'vitest';

import type { ConnectionReport } from '../../src/connection/connection-events.js';
import { DEFAULT_LOGGING } from '../../src/config/defaults.js';
import { AuditTrail } from '../../src/telemetry/audit/audit-trail.js';
import { ListenerTelemetry } from '../../src/telemetry/listener-telemetry.js';
import { createLogger } from '../../src/telemetry/logger.js';
import { Metrics, type Snapshot } from '../../src/telemetry/metrics.js';
import { RpcLog } from '../../src/telemetry/rpc/rpc-log.js';
import { UnauthenticatedLines } from '../../src/telemetry/unauthenticated-lines.js';
import { CollectingSink } from './collecting-sink.js';

const LISTEN = { scheme: 'tls', host: '::', port: 9999, url: 'tls://[::]:9999' } as const;
const UPSTREAM = 'tcp://127.0.0.1:8075';

const REPORT: ConnectionReport = {
  peerAddress: '10.0.0.1:5000',
  isAuthenticated: true,
  viaAddress: undefined,
  identity: 'rails.internal',
  protocol: 'backchannel',
  serverName: 'gitaly-a.internal',
  upstream: UPSTREAM,
  tls: { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', resumed: false },
  bytesToUpstream: 100,
  bytesToClient: 2000,
  durationMs: 12.3456,
  reason: 'finished',
  initiator: 'client',
  detail: '',
  advice: undefined,
};

const SNAPSHOT: Snapshot = {
  listeners: [{ listener: LISTEN.url, type: 'tls', connections: 3 }],
  upstreams: [{ listener: LISTEN.url, upstream: UPSTREAM }],
  certificates: [
    { listener: LISTEN.url, role: 'server', notAfter: new Date('2027-01-01T00:00:00Z') },
    { listener: LISTEN.url, role: 'client_ca', notAfter: new Date('2028-01-01T00:00:00Z') },
  ],
  revocationLists: [{ listener: LISTEN.url, nextUpdate: new Date('2026-12-01T00:00:00Z') }],
  droppedLogLines: 5,
  workers: 2,
};

interface Telemetry {
  readonly metrics: Metrics;
  readonly telemetry: ListenerTelemetry;
  readonly sink: CollectingSink;
}

function start(): Telemetry {
  const metrics = new Metrics('1.2.3');
  const sink = new CollectingSink();
  const logger = createLogger(sink, { level: 'debug', format: 'json' });
  const telemetry = new ListenerTelemetry(
    { listen: LISTEN, http: undefined },
    metrics,
    logger,
    new RpcLog(logger, DEFAULT_LOGGING.rpc),
    new UnauthenticatedLines(logger),
    new AuditTrail(() => undefined),
  );
  return { metrics, telemetry, sink };
}

/** Every event of a connection, once. */
function useAll({ telemetry }: Telemetry): void {
  telemetry.accepted();
  telemetry.handshakeFinished({ version: 'TLSv1.3', cipher: 'x', resumed: true }, 0.002);
  telemetry.handshakeFailed('no_application_protocol');
  telemetry.clientCertificate('revoked');
  telemetry.protocolDetected('http2');
  telemetry.upstreamConnected(UPSTREAM, 0.001);
  telemetry.upstreamFailed(UPSTREAM, 'certificate_expired');
  telemetry.bytes(10, 20);
  telemetry.dropped('descriptors', '10.0.0.9:1');
  telemetry.closed(REPORT);
}

async function scrape(metrics: Metrics): Promise<string[]> {
  return (await metrics.expose('prometheus')).body.split('\n');
}

describe('the documented query', () => {
  test.each(['tls', 'tcp', 'unix'] as const)('finds gitaly_connections_total{type="%s"}', async (scheme) => {
    const metrics = new Metrics('1');
    const logger = createLogger(new CollectingSink(), { level: 'error', format: 'json' });
    const listen = { ...LISTEN, scheme } as const;
    const address =
      scheme === 'unix' ? ({ scheme, path: '/a', url: 'unix:/a' } as const) : { ...listen, scheme };
    const telemetry = new ListenerTelemetry(
      { listen: address, http: undefined },
      metrics,
      logger,
      new RpcLog(logger, DEFAULT_LOGGING.rpc),
      new UnauthenticatedLines(logger),
      new AuditTrail(() => undefined),
    );
    // It is there before the first connection, so that a rate is right from then on.
    expect(await scrape(metrics)).toContain(`gitaly_connections_total{type="${scheme}"} 0`);
    telemetry.accepted();
    telemetry.accepted();
    expect(await scrape(metrics)).toContain(`gitaly_connections_total{type="${scheme}"} 2`);
  });
});

test('events of connections are counted', async () => {
  const started = start();
  started.metrics.observe({ report: () => Promise.resolve(), snapshot: () => SNAPSHOT });
  useAll(started);
  const lines = await scrape(started.metrics);
  const listener = `listener="${LISTEN.url}"`;
  const upstream = `${listener},upstream="${UPSTREAM}"`;
  const prefix = 'gitaly_tls_proxy_';
  for (const line of [
    `connections_total{${listener},type="tls",protocol="http2"} 1`,
    `connections_closed_total{${listener},reason="finished",initiator="client"} 1`,
    `connections_dropped_total{${listener},reason="descriptors"} 1`,
    `connection_bytes_total{${listener},direction="to_upstream"} 10`,
    `connection_bytes_total{${listener},direction="to_client"} 20`,
    `connection_duration_seconds_count{${listener}} 1`,
    `tls_handshakes_total{${listener},version="TLSv1.3",resumed="true"} 1`,
    `tls_handshake_failures_total{${listener},reason="no_application_protocol"} 1`,
    `tls_handshake_seconds_count{${listener}} 1`,
    `tls_client_certificates_total{${listener},result="revoked"} 1`,
    `upstream_connect_seconds_count{${upstream}} 1`,
    `upstream_connect_failures_total{${upstream},reason="certificate_expired"} 1`,
    `upstream_up{${upstream}} 0`,
    'tls_last_reload_successful 1',
  ])
    expect(lines).toContain(`${prefix}${line}`);
  expect(lines.find((line) => line.startsWith(`${prefix}build_info{`))).toContain('version="1.2.3"');
  expect(lines.some((line) => line.startsWith('nodejs_eventloop_lag_seconds'))).toBe(true);
  expect(lines.some((line) => line.startsWith('process_cpu_seconds_total'))).toBe(true);
});

test('a scrape shows what is true at that moment', async () => {
  const { metrics, telemetry } = start();
  telemetry.upstreamFailed(UPSTREAM, 'refused');
  let reported = 0;
  let snapshot = SNAPSHOT;
  const report = (): Promise<void> => {
    reported++;
    return Promise.resolve();
  };
  metrics.observe({ report, snapshot: () => snapshot });
  const listener = `listener="${LISTEN.url}"`;
  const first = await scrape(metrics);
  expect(first).toContain(`gitaly_tls_proxy_connections_active{${listener},type="tls"} 3`);
  expect(first).toContain(
    `gitaly_tls_proxy_tls_certificate_not_after_timestamp_seconds{${listener},role="server"} 1798761600`,
  );
  expect(first).toContain(`gitaly_tls_proxy_tls_crl_next_update_timestamp_seconds{${listener}} 1796083200`);
  expect(first).toContain('gitaly_tls_proxy_log_lines_dropped_total 5');
  expect(first).toContain('gitaly_tls_proxy_workers 2');
  expect(reported).toBe(1);
  expect(first).toContain(`gitaly_tls_proxy_upstream_up{${listener},upstream="${UPSTREAM}"} 0`);
  // A removed listener leaves no series behind, nor does an upstream that was down; the counter continues from its value.
  snapshot = {
    listeners: [],
    upstreams: [],
    certificates: [],
    revocationLists: [],
    droppedLogLines: 7,
    workers: 2,
  };
  const second = await scrape(metrics);
  expect(
    second.filter(
      (line) => /connections_active\{|upstream_up|not_after|next_update/.test(line) && !line.startsWith('#'),
    ),
  ).toEqual([]);
  expect(second).toContain('gitaly_tls_proxy_log_lines_dropped_total 7');
});

test('labels are closed: nothing that a client sends becomes one', async () => {
  const started = start();
  started.metrics.observe({ report: () => Promise.resolve(), snapshot: () => SNAPSHOT });
  useAll(started);
  // The process's own metrics come and go with what it does; ours are looked at.
  const ours = async (): Promise<string[]> =>
    (await scrape(started.metrics)).filter((line) => /^(gitaly|grpc)_/.test(line));
  const before = (await ours()).length;
  for (let count = 0; count < 50; count++) {
    started.telemetry.closed({
      ...REPORT,
      peerAddress: `10.0.0.${count}:1`,
      identity: `identity-${count}`,
      serverName: `name-${count}.test`,
      detail: `detail-${count}`,
      tls: { version: 'TLSv1.3', cipher: `cipher-${count}`, resumed: false },
    });
    started.telemetry.dropped('descriptors', `10.0.1.${count}:1`);
  }
  const own = await ours();
  expect(own).toHaveLength(before);
  const labels = new Set(own.flatMap((line) => [...line.matchAll(/[{,](\w+)="/g)].map(([, label]) => label)));
  expect([...labels].sort()).toEqual([
    'direction',
    'grpc_method',
    'grpc_service',
    'grpc_type',
    'initiator',
    'le',
    'listener',
    'node_version',
    'openssl_version',
    'protocol',
    'reason',
    'result',
    'resumed',
    'role',
    'side',
    'type',
    'upstream',
    'version',
  ]);
});

describe('OpenMetrics', () => {
  test('is well-formed: each family once, with its samples behind it, and an end', async () => {
    const started = start();
    started.metrics.observe({ report: () => Promise.resolve(), snapshot: () => SNAPSHOT });
    useAll(started);
    const { contentType, body } = await started.metrics.expose('openmetrics');
    expect(contentType).toMatch(/^application\/openmetrics-text; version=1\.0\.0; charset=utf-8$/);
    expect(body).toMatch(/\n# EOF\n?$/);
    expect(body.match(/^# EOF$/gm)).toHaveLength(1);
    const types = new Map<string, string>();
    let family = '';
    for (const line of body.trimEnd().split('\n')) {
      if (line === '# EOF') continue;
      const declared = /^# TYPE (\S+) (\w+)$/.exec(line);
      if (declared) {
        [, family = ''] = declared;
        expect(types.has(family), family).toBe(false);
        types.set(family, declared[2] ?? '');
      }
      if (line.startsWith('#')) continue;
      const name = /^\w+/.exec(line)?.[0] ?? '';
      const suffixes = { counter: ['_total'], histogram: ['_bucket', '_sum', '_count'], gauge: [''] };
      const type = types.get(family);
      const allowed = type === 'counter' || type === 'histogram' || type === 'gauge' ? suffixes[type] : [''];
      // The families of prom-client itself are its business.
      if (/^(gitaly|grpc)_/.test(name))
        expect(
          allowed.map((suffix) => `${family}${suffix}`),
          line,
        ).toContain(name);
    }
    expect(types.get('gitaly_connections')).toBe('counter');
    expect(body).toMatch(/^gitaly_connections_total\{type="tls"\} 1$/m);
  });

  test('holds the same numbers as the other format', async () => {
    const started = start();
    useAll(started);
    const samples = (body: string): string[] =>
      body
        .split('\n')
        .filter((line) => line.startsWith('gitaly_'))
        .sort();
    const { body: one } = await started.metrics.expose('prometheus');
    const { body: other } = await started.metrics.expose('openmetrics');
    expect(samples(other)).toEqual(samples(one));
    const { body: again } = await started.metrics.expose('prometheus');
    expect(samples(again)).toEqual(samples(one));
  });
});

describe('the line of a connection', () => {
  test('has all that is known about the connection', () => {
    const { telemetry, sink } = start();
    telemetry.closed({ ...REPORT, viaAddress: '10.1.1.1:7', detail: 'more', advice: 'do this' });
    expect(sink.parsed).toEqual([
      {
        level: 'info',
        time: expect.any(String) as string,
        event: 'connection_closed',
        msg: 'connection finished',
        listener: LISTEN.url,
        upstream: UPSTREAM,
        'peer.address': '10.0.0.1:5000',
        'peer.via': '10.1.1.1:7',
        'peer.identity': 'rails.internal',
        protocol: 'backchannel',
        'tls.version': 'TLSv1.3',
        'tls.cipher': 'TLS_AES_128_GCM_SHA256',
        'tls.resumed': false,
        server_name: 'gitaly-a.internal',
        'bytes.to_upstream': 100,
        'bytes.to_client': 2000,
        duration_ms: 12.346,
        'close.reason': 'finished',
        'close.initiator': 'client',
        'close.detail': 'more',
        'close.advice': 'do this',
      },
    ]);
  });

  test.each([
    ['probe', 'debug'],
    ['finished', 'info'],
    ['reset', 'info'],
    ['handshake_failed', 'warning'],
    ['client_certificate_refused', 'warning'],
    ['upstream_unreachable', 'error'],
    ['internal_error', 'error'],
  ] as const)('%s is logged at %s', (reason, level) => {
    const { telemetry, sink } = start();
    telemetry.closed({ ...REPORT, reason });
    expect(sink.parsed).toMatchObject([{ level, 'close.reason': reason }]);
  });

  test('an internal error, and a connection of unknown protocol, are counted', async () => {
    const { telemetry, metrics } = start();
    telemetry.closed({ ...REPORT, reason: 'internal_error', protocol: undefined });
    const lines = await scrape(metrics);
    expect(lines).toContain('gitaly_tls_proxy_internal_errors_total{scope="connection"} 1');
    expect(lines).toContain(
      `gitaly_tls_proxy_connections_total{listener="${LISTEN.url}",type="tls",protocol="unknown"} 1`,
    );
  });
});

test('a flood of refusals is counted, and logged once in a while with how many there were', () => {
  const { telemetry, sink } = start();
  for (let count = 0; count < 100; count++) telemetry.dropped('max_connections', `10.0.0.1:${count}`);
  expect(sink.parsed).toMatchObject([
    {
      level: 'warning',
      'close.reason': 'max_connections',
      count: 1,
      fix: expect.stringMatching(/raise max_connections/) as string,
    },
  ]);
});
