import { formatEnd } from '../connection/peer-address.js';
import type { ConnectionStatus } from '../connection/status.js';
import type { Sidechannel } from '../inspect/backchannel/sidechannel.js';
import type { GrpcCall } from '../inspect/grpc/call.js';
import type { SendWindow } from '../inspect/send-window.js';
import { STATUS_PAGE_ENTRIES } from '../limits.js';

/** A page in JSON, or what is wrong with what was asked for. */
export type StatusPage = { readonly content: object } | { readonly refusal: string };

/** `/-/connections`: every open connection with its calls and sidechannels, the oldest first. */
export function openConnections(
  connections: readonly ConnectionStatus[],
  query: URLSearchParams,
  nowMs: number,
): StatusPage {
  const limit = readLimit(query);
  if (typeof limit === 'string') return { refusal: limit };
  const oldestFirst = [...connections].sort(
    (one, other) => one.facts.acceptedAtMs - other.facts.acceptedAtMs,
  );
  const shown = oldestFirst.slice(0, limit).map((connection) => describeConnection(connection, nowMs));
  return { content: { open: connections.length, shown: shown.length, connections: shown } };
}

/** `/-/rpcs?state=open`: every open call, the longest first. */
export function openRpcs(
  connections: readonly ConnectionStatus[],
  query: URLSearchParams,
  nowMs: number,
): StatusPage {
  const state = query.get('state') ?? 'open';
  if (state !== 'open') return { refusal: `state: expected open, got ${JSON.stringify(state)}` };
  const limit = readLimit(query);
  if (typeof limit === 'string') return { refusal: limit };
  const calls = connections
    .flatMap((connection) => callsOf(connection).map((call) => ({ connection, call })))
    .sort((one, other) => one.call.start.startedAtMs - other.call.start.startedAtMs);
  const shown = calls.slice(0, limit).map(({ connection, call }) => ({
    ...describeCall(call, nowMs),
    connection: describeEnds(connection),
  }));
  return { content: { open: calls.length, shown: shown.length, rpcs: shown } };
}

function readLimit(query: URLSearchParams): number | string {
  const text = query.get('limit');
  if (text === null) return STATUS_PAGE_ENTRIES;
  const limit = /^\d{1,7}$/u.test(text) ? Number(text) : 0;
  return limit > 0 ? limit : `limit: expected a number from 1 on, got ${JSON.stringify(text)}`;
}

function callsOf({ inspector }: ConnectionStatus): GrpcCall[] {
  return inspector ? [...inspector.connections].flatMap((connection) => [...connection.calls()]) : [];
}

function describeEnds({ id, listener, upstream, facts }: ConnectionStatus) {
  const { clientEnd, socketEnd, identity, protocol } = facts;
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

function describeConnection(connection: ConnectionStatus, nowMs: number) {
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
    rpcs: callsOf(connection).map((call) => describeCall(call, nowMs)),
    sidechannels: [...(inspector?.sidechannels ?? [])].map((one) => describeSidechannel(one, nowMs)),
  };
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

/** How much the sender may still send, and for how long so far it could not: then its reader is the slow one. */
function describeWindow(window: SendWindow, nowMs: number) {
  return {
    // None that counts, once the sender has said that it is done.
    window_bytes: Number.isFinite(window.bytes) ? window.bytes : null,
    blocked: window.bytes <= 0,
    stalled_ms: Math.round(window.stalledMs(nowMs)),
  };
}
