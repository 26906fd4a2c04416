import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

import { onTestFinished } from 'vitest';

import { FollowedCalls } from '../../src/connection/followed-calls.js';
import { ConnectionEnd } from '../../src/connection/connection-end.js';
import { Relay, type RelayOutcome } from '../../src/connection/relay/relay.js';
import { CallPool } from '../../src/inspect/call-pool.js';
import type { CallEnd, GrpcCall } from '../../src/inspect/grpc/call.js';
import { JudgedFields } from '../../src/inspect/grpc/fields.js';
import { ABUSE_LIMITS, DRAIN_PING_MS } from '../../src/limits.js';
import type { CallJudge } from '../../src/policy/call-judge.js';
import { createDialer } from '../../src/upstream/dialer.js';

/** A call as the proxy has counted it. */
export interface CountedCall {
  readonly path: string;
  readonly end: CallEnd;
}

/** One connection of a `JudgedRelay`. */
export interface RelayedClient {
  readonly calls: FollowedCalls;
  readonly outcome: Promise<RelayOutcome>;
}

/** A plaintext listener within this process whose connections are relayed, and their calls judged. */
export interface JudgedRelay {
  /** `host:port`. */
  readonly address: string;
  readonly counted: readonly CountedCall[];
  readonly connections: readonly RelayedClient[];
  /** Ends that the proxy has given to connections. */
  readonly refused: readonly ConnectionEnd[];
  /** What it advises the operator of each. */
  readonly advice: readonly string[];
}

/** Starts a relay to a `tcp://` URL. It ends with the test. */
export async function startJudgedRelay(upstream: string, judge: CallJudge['judge']): Promise<JudgedRelay> {
  const { hostname, port } = new URL(upstream);
  const dialer = createDialer(
    { scheme: 'tcp', host: hostname, port: Number(port), url: upstream },
    undefined,
    5000,
  );
  const counted: CountedCall[] = [];
  const connections: RelayedClient[] = [];
  const refused: ConnectionEnd[] = [];
  const adviceGiven: string[] = [];
  const fields = new JudgedFields([]);
  const events = {
    inspectorLost: () => undefined,
    inspecting: () => ({
      started: (call: GrpcCall) => ({
        moved: () => undefined,
        lost: () => undefined,
        ended: (end: CallEnd) => void counted.push({ path: call.start.path, end }),
      }),
      sidechannelOpened: () => ({ moved: () => undefined, ended: () => undefined }),
    }),
  };
  const relayed = async (client: Socket): Promise<void> => {
    client.on('error', () => undefined);
    const end = await dialer.dial('plain', undefined, new AbortController().signal);
    const calls: FollowedCalls = new FollowedCalls(
      {
        protocol: 'http2',
        mode: 'on',
        limits: ABUSE_LIMITS,
        prefaceMs: 10_000,
        drainPingMs: DRAIN_PING_MS,
        peer: {
          upstream,
          peerAddress: 'a client',
          identity: undefined,
          isAuthenticated: () => true,
          observed: undefined,
        },
        events,
        share: new CallPool(10_000).share(undefined, 10_000),
        judging: { judge: { judge }, fields },
      },
      {
        answered: () => undefined,
        insert: (direction, bytes) => {
          relay.insert(direction, bytes);
          return relay.queuedBytes(direction);
        },
        refuse: (reason, lastBytes, advice) => {
          refused.push(reason);
          adviceGiven.push(advice);
          relay.refuse(reason, lastBytes);
        },
        drained: () => relay.end(new ConnectionEnd('drained', 'proxy')),
        fault: (error) => {
          throw error;
        },
      },
    );
    const relay: Relay = new Relay({ stream: client, raw: client, head: Buffer.alloc(0) }, end, {
      tap: calls,
      halfCloseMs: 60_000,
      firstByteMs: undefined,
      onAnswer: () => undefined,
    });
    onTestFinished(() => relay.cut(new ConnectionEnd('finished', 'proxy')));
    connections.push({ calls, outcome: relay.done });
    relay.start();
    await relay.done;
    calls.end();
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (client) => {
    void relayed(client);
  });
  server.listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address() as AddressInfo;
  return { address: `127.0.0.1:${address.port}`, counted, connections, refused, advice: adviceGiven };
}
