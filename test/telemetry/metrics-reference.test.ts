import { readdirSync, readFileSync } from 'node:fs';

import { describe, expect, test } from 'vitest';

import type { CloseReason, Initiator } from '../../src/connection/connection-end.js';
import type { DropReason } from '../../src/connection/connection-events.js';
import type { RefusalReason, UpstreamFault } from '../../src/http/refusal.js';
import type { CodeClass, MethodLabel } from '../../src/telemetry/http-telemetry.js';
import { Metrics, type CertificateRole } from '../../src/telemetry/metrics.js';
import type { ClientFault } from '../../src/tls/client-certificate.js';
import type { InspectionFailureReason } from '../../src/inspect/connection-inspector.js';
import type { HandshakeFailure } from '../../src/tls/handshake-failure.js';
import type { UpstreamFailureReason } from '../../src/upstream/failure.js';

/** All members of a closed set: the compiler asks for every one and refuses any other. */
type All<Member extends string> = Readonly<Record<Member, true>>;

const CLOSE_REASONS: All<CloseReason> = {
  finished: true,
  reset: true,
  probe: true,
  left_early: true,
  proxy_header_malformed: true,
  proxy_header_timeout: true,
  handshake_failed: true,
  client_certificate_refused: true,
  client_not_allowed: true,
  protocol_unknown: true,
  preface_timeout: true,
  request_malformed: true,
  max_unauthenticated_connections: true,
  max_connections_per_source: true,
  upstream_unreachable: true,
  idle_timeout: true,
  half_close_timeout: true,
  drained: true,
  write_stall: true,
  max_connection_age: true,
  abuse: true,
  inspection_lost: true,
  drain_timeout: true,
  internal_error: true,
};
const INITIATORS: All<Initiator> = { client: true, upstream: true, proxy: true };
const DROP_REASONS: All<DropReason> = {
  max_connections: true,
  max_unauthenticated_connections: true,
  max_connections_per_source: true,
  descriptors: true,
  memory: true,
  no_worker: true,
};
const CERTIFICATE_ROLES: All<CertificateRole> = {
  server: true,
  client_ca: true,
  upstream_client: true,
  upstream_ca: true,
};
const HANDSHAKE_FAILURES: All<HandshakeFailure> = {
  no_application_protocol: true,
  unrecognized_name: true,
  client_hello: true,
  client_chain: true,
  not_tls: true,
  unsupported_version: true,
  no_shared_cipher: true,
  certificate_rejected_by_client: true,
  timeout: true,
  closed: true,
  reset: true,
  other: true,
};
// A client's certificate is asked for no name.
const CLIENT_CERTIFICATE_RESULTS: All<Exclude<'verified' | ClientFault, 'name_mismatch'> | 'would_refuse_'> =
  {
    verified: true,
    would_refuse_: true,
    absent: true,
    not_allowed: true,
    unknown_authority: true,
    expired: true,
    not_yet_valid: true,
    revoked: true,
    invalid_purpose: true,
    invalid_authority: true,
    name_constraints: true,
    critical_extension: true,
    weak_signature: true,
    weak_key: true,
    crl: true,
    other: true,
  };
const UPSTREAM_FAILURES: All<UpstreamFailureReason> = {
  refused: true,
  timeout: true,
  name_not_found: true,
  unreachable: true,
  no_socket: true,
  permission: true,
  reset: true,
  closed: true,
  silent: true,
  no_alpn: true,
  client_certificate_refused: true,
  tls: true,
  certificate_unknown_authority: true,
  certificate_expired: true,
  certificate_not_yet_valid: true,
  certificate_revoked: true,
  certificate_invalid_purpose: true,
  certificate_invalid_authority: true,
  certificate_name_constraints: true,
  certificate_critical_extension: true,
  certificate_weak_signature: true,
  certificate_weak_key: true,
  certificate_crl: true,
  certificate_name_mismatch: true,
  certificate_other: true,
  other: true,
};

const INSPECTION_FAILURES: All<InspectionFailureReason> = {
  preface: true,
  frame: true,
  settings: true,
  continuation: true,
  too_many_streams: true,
  reset_flood: true,
  control_flood: true,
  frame_flood: true,
  yamux_flood: true,
  hpack_truncated: true,
  hpack_integer: true,
  hpack_index: true,
  hpack_huffman: true,
  hpack_table_size: true,
  hpack_too_large: true,
  magic: true,
  yamux_frame: true,
  call_budget: true,
  unjudged_block: true,
  large_block: true,
  refused_call_answered: true,
  refused_flood: true,
  stream_kind: true,
  sidechannel: true,
  too_many_connections: true,
};

const REFUSALS: All<RefusalReason> = {
  malformed: true,
  header_too_large: true,
  version: true,
  transfer_coding: true,
  client_certificate: true,
  path: true,
  method: true,
  expectation: true,
  draining: true,
  descriptors: true,
  memory: true,
};
const UPSTREAM_FAULTS: All<UpstreamFault> = {
  unreachable: true,
  closed: true,
  cut: true,
  malformed: true,
  write_stall: true,
};
const METHODS: All<MethodLabel> = {
  GET: true,
  HEAD: true,
  POST: true,
  PUT: true,
  PATCH: true,
  DELETE: true,
  OPTIONS: true,
  other: true,
};
const CODE_CLASSES: All<CodeClass> = {
  '1xx': true,
  '2xx': true,
  '3xx': true,
  '4xx': true,
  '5xx': true,
  none: true,
  other: true,
};

const REFERENCE = read('docs/metrics.md');

function read(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}

/** The words set as code. */
function coded(text: string): string[] {
  return [...text.matchAll(/`(\w+)`/g)].map(([, word = '']) => word);
}

/** What stands under a metric's heading, up to the next one. */
function section(metric: string): string {
  const [, after = ''] = REFERENCE.split(`\n### \`${metric}\`\n`);
  const [text = ''] = after.split('\n#');
  return text;
}

/** The last cell of a metric's row. */
function meaning(metric: string): string {
  return new RegExp(`^\\| \`${metric}\` .*\\|([^|]*)\\|$`, 'm').exec(REFERENCE)?.[1] ?? '';
}

/** The first cells of the table under a metric's heading, its own heading left out. */
function firstCellsOf(metric: string): string {
  const cells = [...section(metric).matchAll(/^\| (`[^|]*)\|/gm)].map(([, cell = '']) => cell);
  return cells.filter((cell) => cell.trim() !== '`reason`').join();
}

describe('docs/metrics.md lists every value of a label and no other:', () => {
  const closed = section('connections_closed_total');
  const [results = ''] = section('tls_client_certificates_total').split('Only where');
  test.each<[string, readonly string[], All<string>]>([
    ['why connections end', coded(firstCellsOf('connections_closed_total')), CLOSE_REASONS],
    ['who ends them', coded(closed.split('\n|')[0] ?? '').filter((word) => word !== 'initiator'), INITIATORS],
    ['why they are dropped', coded(meaning('connections_dropped_total')), DROP_REASONS],
    ['roles', coded(meaning('tls_certificate_not_after_timestamp_seconds')), CERTIFICATE_ROLES],
    ['failed handshakes', coded(section('tls_handshake_failures_total')), HANDSHAKE_FAILURES],
    ['client certificates', coded(results), CLIENT_CERTIFICATE_RESULTS],
    ['what cannot be followed', coded(section('inspector_lost_total')), INSPECTION_FAILURES],
    ['refused requests', coded(firstCellsOf('http_requests_refused_total')), REFUSALS],
    ['upstreams that do not answer', coded(firstCellsOf('http_upstream_failures_total')), UPSTREAM_FAULTS],
    ['methods', coded(section('http_requests_total').split('Classes')[0] ?? ''), METHODS],
    ['classes of status', coded(section('http_requests_total').split('Classes')[1] ?? ''), CODE_CLASSES],
    ['unreachable upstreams', coded(section('upstream_connect_failures_total')), UPSTREAM_FAILURES],
  ])('%s', (_what, documented, known) => {
    expect([...documented].sort()).toEqual(Object.keys(known).sort());
  });
});

test('every metric that a document or an alert names is there', async () => {
  const { body } = await new Metrics('1.2.3').expose('prometheus');
  const known = new Set([...body.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name));
  const pages = readdirSync(new URL('../../docs', import.meta.url)).filter((name) => name.endsWith('.md'));
  const documents = [
    'README.md',
    'CHANGELOG.md',
    ...pages.map((name) => `docs/${name}`),
    'docker-compose.yml',
  ];
  const named = documents.flatMap((path) =>
    [...read(path).matchAll(/\b(?:gitaly_tls_proxy_\w+|\w+_total)\b/g)].map(([name]) => ({
      path,
      // The reference and the runbook leave our prefix out.
      name: /^(gitaly|grpc)_/.test(name) ? name : `gitaly_tls_proxy_${name}`,
    })),
  );
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter(({ name }) => !known.has(name))).toEqual([]);
});
