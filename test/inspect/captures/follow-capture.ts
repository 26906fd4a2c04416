import type { Sidechannel } from '../../../src/inspect/backchannel/sidechannel.js';
import { inspectConnection } from '../../../src/inspect/connection-inspector.js';
import type { CallEnd, GrpcCall } from '../../../src/inspect/grpc/call.js';
import type { Sender } from '../../../src/inspect/sender.js';
import type { Capture, RecordedCalls } from './capture-files.js';

/** What an inspector told of one call. */
export interface FollowedCall {
  readonly id: string | undefined;
  readonly method: string;
  readonly direction: 'to_upstream' | 'to_client';
  readonly code: CallEnd['code'];
  readonly client: Traffic;
  readonly server: Traffic;
}

interface Traffic {
  readonly messages: number;
  readonly bytes: number;
  readonly compressed: number;
}

/** What an inspector told of one sidechannel; `id` is that of its call. */
export interface FollowedSidechannel {
  readonly id: string | undefined;
  readonly ended: string;
  readonly client: number;
  readonly server: number;
}

/** What an inspector told of a connection. */
export interface Followed {
  readonly calls: readonly FollowedCall[];
  readonly sidechannels: readonly FollowedSidechannel[];
  /** Who ended each call, by its id. */
  readonly endedBy: ReadonlyMap<string | undefined, CallEnd['by']>;
  /** Everything that must not happen. */
  readonly trouble: readonly string[];
}

/** Shows an inspector a capture in slices, each at the same place of memory, which is overwritten after each. */
export function follow(capture: Capture, sliceBytes: () => number): Followed {
  const calls: FollowedCall[] = [];
  const sidechannels: FollowedSidechannel[] = [];
  const endedBy = new Map<string | undefined, CallEnd['by']>();
  const trouble: string[] = [];
  let started = 0;
  const inspector = inspectConnection(capture.recorded.protocol, {
    started: (call) => {
      started++;
      return {
        moved: () => undefined,
        ended: (end) => {
          calls.push(followedCall(call, end));
          endedBy.set(call.start.correlationId, end.by);
        },
        lost: () => trouble.push(`call ${call.start.path} lost`),
      };
    },
    sidechannelOpened: (sidechannel) => ({
      moved: () => undefined,
      ended: (how) => sidechannels.push(followedSidechannel(sidechannel, how)),
    }),
  });
  const memory = Buffer.alloc(70_000);
  const placed = 3;
  for (const { from, at, bytes } of capture.chunks) {
    for (let offset = 0; offset < bytes.length;) {
      const taken = Math.min(sliceBytes(), bytes.length - offset);
      bytes.copy(memory, placed, offset, offset + taken);
      const failure = inspector.read(from, memory, placed, placed + taken, at);
      memory.fill(0xff, placed, placed + taken);
      offset += taken;
      if (failure) return { calls, sidechannels, endedBy, trouble: [...trouble, failure] };
    }
  }
  inspector.end(capture.chunks.at(-1)?.at ?? 0);
  if (started !== calls.length) trouble.push(`${started} calls started, ${calls.length} ended`);
  if ([...inspector.sidechannels].length > 0) trouble.push('sidechannels are open after the end');
  return { calls: sorted(calls), sidechannels: sorted(sidechannels), endedBy, trouble };
}

/** The calls of a capture as an inspector is to tell them: with the code that the client got. */
export function expected({ calls, sidechannels }: RecordedCalls): Pick<Followed, 'calls' | 'sidechannels'> {
  const killed = new Set(calls.filter(({ end }) => end === 'kill').map(({ id }) => id));
  return {
    calls: sorted(
      calls.map(({ id, method, direction, client, server }) => ({
        id,
        method,
        direction,
        code: client.code,
        client: client.sent,
        server: server.sent,
      })),
    ),
    sidechannels: sorted(
      sidechannels.map(({ id, client, server }) => ({
        id,
        ended: killed.has(id) ? 'connection' : 'finished',
        client: client.sent,
        server: server.sent,
      })),
    ),
  };
}

function followedCall({ start, context, messages }: GrpcCall, { code }: CallEnd): FollowedCall {
  const traffic = (sender: Sender): Traffic => {
    const { messages: count, payloadBytes, compressed } = messages[sender];
    return { messages: count, bytes: payloadBytes, compressed };
  };
  return {
    id: start.correlationId,
    method: start.path,
    direction: context.direction,
    code,
    client: traffic('client'),
    server: traffic('server'),
  };
}

function followedSidechannel(sidechannel: Sidechannel, ended: string): FollowedSidechannel {
  const { client, server } = sidechannel.contentBytes;
  return { id: sidechannel.call?.start.correlationId, ended, client, server };
}

function sorted<Item extends { readonly id: string | undefined }>(items: readonly Item[]): Item[] {
  return [...items].sort((a, b) => (a.id ?? '').localeCompare(b.id ?? ''));
}
