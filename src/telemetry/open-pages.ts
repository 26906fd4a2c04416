import { formatEnd } from '../connection/peer-address.js';
import type { ConnectionStatus, OpenRequest } from '../connection/connection-status.js';
import type { CallPool } from '../inspect/call-pool.js';
import type { Sidechannel } from '../inspect/backchannel/sidechannel.js';
import type { GrpcCall } from '../inspect/grpc/call.js';
import type { SendWindow } from '../inspect/send-window.js';
import { STATUS_PAGE_CONNECTION_RPCS, STATUS_PAGE_ENTRIES, STATUS_PAGE_ENTRIES_MAX } from '../limits.js';

/** A list that can be requested. */
export type OpenKind = 'connections' | 'rpcs';

/** An open connection or call, as JSON shows it. */
export interface OpenEntry {
  readonly age_ms: number;
  readonly [field: string]: unknown;
}

/** The number of open entries and the oldest of them, the oldest first. */
export interface OpenPage {
  readonly open: number;
  readonly entries: readonly OpenEntry[];
}

/** A page in JSON, or the reason why the request is invalid. */
export type StatusPage = { readonly content: object } | { readonly refusal: string };

/** The content of `/-/connections` or `/-/rpcs?state=open`: the entries of `list`, limited by the query. */
export async function statusPage(
  kind: OpenKind,
  query: URLSearchParams,
  list: (kind: OpenKind, limit: number) => Promise<OpenPage>,
): Promise<StatusPage> {
  const state = query.get('state') ?? 'open';
  if (kind === 'rpcs' && state !== 'open')
    return { refusal: `state: expected open, got ${JSON.stringify(state)}` };
  const limit = readLimit(query);
  if (typeof limit === 'string') return { refusal: limit };
  const { open, entries } = await list(kind, limit);
  return { content: { open, shown: entries.length, [kind]: entries } };
}

/** Merges several lists into one. */
export function mergePages(pages: readonly OpenPage[], limit: number): OpenPage {
  return {
    open: pages.reduce((sum, { open }) => sum + open, 0),
    entries: pages
      .flatMap(({ entries }) => entries)
      .sort((one, other) => other.age_ms - one.age_ms)
      .slice(0, limit),
  };
}

/**
 * The oldest connections. `oldest`: from each listener, at least as many as may be shown; `open`: their total number. At most
 * `limit` of their calls are shown.
 */
export function listConnections(
  oldest: readonly ConnectionStatus[],
  open: number,
  limit: number,
  nowMs: number,
): OpenPage {
  let callsLeft = limit;
  const entries = [...oldest]
    .sort((one, other) => one.facts.acceptedAtMs - other.facts.acceptedAtMs)
    .slice(0, limit)
    .map((connection) => {
      const calls = callsOf(connection, Math.min(callsLeft, STATUS_PAGE_CONNECTION_RPCS));
      callsLeft -= calls.length;
      return describeConnection(connection, calls, nowMs);
    });
  return { open, entries };
}

/** The oldest calls. */
export function listRpcs(
  calls: CallPool<{ readonly status: ConnectionStatus }>,
  limit: number,
  nowMs: number,
): OpenPage {
  const entries: OpenEntry[] = [];
  for (const { call, owner } of calls.oldest()) {
    if (entries.length >= limit) break;
    entries.push({ ...describeCall(call, nowMs), connection: describeEnds(owner.status) });
  }
  return { open: calls.size, entries };
}

/** Reads the number of entries of a page, or describes what is wrong with it. */
export function readLimit(query: URLSearchParams): number | string {
  const text = query.get('limit');
  if (text === null) return STATUS_PAGE_ENTRIES;
  const limit = /^\d{1,7}$/u.test(text) ? Number(text) : 0;
  if (limit > 0 && limit <= STATUS_PAGE_ENTRIES_MAX) return limit;
  return `limit: expected a number from 1 to ${STATUS_PAGE_ENTRIES_MAX}, got ${JSON.stringify(text)}`;
}

function callsOf({ inspector }: ConnectionStatus, limit: number): GrpcCall[] {
  const calls: GrpcCall[] = [];
  for (const connection of inspector?.connections ?? [])
    if (calls.length < limit) calls.push(...connection.calls(limit - calls.length));
  return calls;
}

function countCalls({ inspector }: ConnectionStatus): number {
  let open = 0;
  for (const { http2 } of inspector?.connections ?? []) open += http2.openStreams;
  return open;
}

function describeEnds({ id, listener, facts }: ConnectionStatus) {
  const { upstream, clientEnd, socketEnd, identity, protocol } = facts;
  return {
    id,
    listener,
    upstream,
    peer_address: formatEnd(clientEnd),
    via_address: clientEnd === socketEnd ? undefined : formatEnd(socketEnd),
    peer_identity: identity,
    protocol,
  };
}

function describeConnection(connection: ConnectionStatus, calls: readonly GrpcCall[], nowMs: number) {
  const { facts, inspector } = connection;
  return {
    ...describeEnds(connection),
    server_name: facts.serverName,
    tls: facts.tls,
    stage: connection.stage,
    age_ms: Math.round(nowMs - facts.acceptedAtMs),
    bytes: { to_upstream: connection.bytesToUpstream, to_client: connection.bytesToClient },
    queued_bytes: { to_upstream: connection.queuedToUpstream, to_client: connection.queuedToClient },
    inspection: connection.inspection,
    grpc_connections: [...(inspector?.connections ?? [])].map(({ context, http2 }) => ({
      direction: context.direction,
      request: describeWindow(http2.windows.client, nowMs),
      response: describeWindow(http2.windows.server, nowMs),
    })),
    rpcs_open: countCalls(connection),
    rpcs: calls.map((call) => describeCall(call, nowMs)),
    requests: connection.requests?.map((request) => describeRequest(request, nowMs)),
    sidechannels: firstOf(inspector?.sidechannels ?? [], STATUS_PAGE_CONNECTION_RPCS).map((one) =>
      describeSidechannel(one, nowMs),
    ),
  };
}

function firstOf<Item>(items: Iterable<Item>, limit: number): Item[] {
  const first: Item[] = [];
  for (const item of items) {
    if (first.length >= limit) break;
    first.push(item);
  }
  return first;
}

function describeCall({ streamId, start, context, messages, windows, sidechannel }: GrpcCall, nowMs: number) {
  return {
    method: start.path,
    direction: context.direction,
    stream_id: streamId,
    age_ms: Math.round(nowMs - start.startedAtMs),
    timeout_ms: start.timeoutMs,
    client_name: start.clientName,
    correlation_id: start.correlationId,
    request: {
      messages: messages.client.messages,
      bytes: messages.client.payloadBytes,
      ...describeWindow(windows.client, nowMs),
    },
    response: {
      messages: messages.server.messages,
      bytes: messages.server.payloadBytes,
      ...describeWindow(windows.server, nowMs),
    },
    sidechannel_id: start.sidechannelId,
    sidechannel_bytes: sidechannel && {
      to_upstream: sidechannel.contentBytes.client,
      to_client: sidechannel.contentBytes.server,
    },
  };
}

function describeRequest(
  { startedAtMs, requestBytes, responseBytes, ...request }: OpenRequest,
  nowMs: number,
) {
  return {
    method: request.method,
    path: request.path,
    age_ms: Math.round(nowMs - startedAtMs),
    status: request.status,
    correlation_id: request.correlationId,
    request_bytes: requestBytes,
    response_bytes: responseBytes,
  };
}

function describeSidechannel(sidechannel: Sidechannel, nowMs: number) {
  const { id, streamId, call, openedAtMs, contentBytes, windows } = sidechannel;
  return {
    id,
    stream_id: streamId,
    method: call?.start.path,
    correlation_id: call?.start.correlationId,
    age_ms: Math.round(nowMs - openedAtMs),
    to_upstream: { bytes: contentBytes.client, ...describeWindow(windows.client, nowMs) },
    to_client: { bytes: contentBytes.server, ...describeWindow(windows.server, nowMs) },
  };
}

/** How much the sender may still send, and how long it has been unable to send in total, because its reader is slow. */
function describeWindow(window: SendWindow, nowMs: number) {
  return {
    // The window becomes infinite when the sender has ended its side.
    window_bytes: Number.isFinite(window.bytes) ? window.bytes : null,
    blocked: window.bytes <= 0,
    stalled_ms: Math.round(window.stalledMs(nowMs)),
  };
}
