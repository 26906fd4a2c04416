import type { CallEnd, CallObserver, GrpcCall } from '../../inspect/grpc/call.js';
import { percentDecoded } from '../../percent-encoding.js';
import type { MethodCounts } from '../rpc/method-table.js';
import { namesOf, type RpcPeer } from '../rpc/rpc-log.js';
import type { AuditTrail } from './audit-trail.js';
import { AuditedRequest } from './audited-request.js';

/** Whether a call changes a repository, or may do so. */
export function isMutating(operation: MethodCounts['operation']): boolean {
  return operation === 'mutator' || operation === 'maintenance' || operation === 'unknown';
}

/** Writes the audit lines of the calls of one connection. */
export class AuditedCalls {
  readonly #trail: AuditTrail;
  readonly #peer: RpcPeer;

  constructor(trail: AuditTrail, peer: RpcPeer) {
    this.#trail = trail;
    this.#peer = peer;
  }

  /** Returns the observer of a call that begins: `inner`, or one that writes a line at the end and passes everything on to it. */
  follow(call: GrpcCall, operation: MethodCounts['operation'], inner: CallObserver): CallObserver {
    if (!this.#trail.isOn || call.context.direction !== 'to_upstream') return inner;
    const request = isMutating(operation) ? new AuditedRequest() : undefined;
    const write = (end: CallEnd | undefined, nowMs: number): void => {
      if (request || end?.by === 'proxy') this.#write(call, operation, request, end, nowMs);
    };
    return {
      moved: (sender, messages, bytes) => inner.moved(sender, messages, bytes),
      ...(request && { request: (bytes, from, to) => request.add(bytes, from, to) }),
      ended: (end) => {
        inner.ended(end);
        write(end, end.endedAtMs);
      },
      lost: (nowMs) => {
        inner.lost(nowMs);
        write(undefined, nowMs);
      },
    };
  }

  /** `end` is undefined if the call could not be followed to its end. */
  #write(
    call: GrpcCall,
    operation: MethodCounts['operation'],
    request: AuditedRequest | undefined,
    end: CallEnd | undefined,
    nowMs: number,
  ): void {
    const { start, messages, sidechannel, context } = call;
    const [service, method] = namesOf(call);
    const repository = request?.repositoryOf(start.path);
    this.#trail.write(end?.by === 'proxy' ? 'refused' : 'call', {
      listener: this.#peer.listener,
      upstream: this.#peer.upstream,
      'peer.address': this.#peer['peer.address'],
      'peer.identity': this.#peer['peer.identity'],
      protocol: context.protocol,
      'grpc.service': service,
      'grpc.method': method,
      'grpc.method_operation': operation,
      'grpc.meta.client_name': start.clientName,
      correlation_id: start.correlationId,
      'gitaly.storage': repository?.storage,
      'gitaly.relative_path': repository?.relativePath,
      'gitaly.request_cut': request?.isCut === true ? true : undefined,
      'grpc.request.payload_bytes': messages.client.payloadBytes,
      'grpc.response.payload_bytes': messages.server.payloadBytes,
      'sidechannel.bytes.to_upstream': sidechannel?.contentBytes.client,
      'sidechannel.bytes.to_client': sidechannel?.contentBytes.server,
      'grpc.time_ms': Math.round(nowMs - start.startedAtMs),
      'grpc.code': end?.code,
      'grpc.ended_by': end?.by ?? 'unknown',
      error: end?.message ? percentDecoded(end.message) : undefined,
    });
  }
}
