import { Gauge } from 'prom-client';

import type { StallTallies } from '../../inspect/send-window.js';
import type { CallGroup, CallGroupCounts, ListenerCounts } from './listener-counts.js';
import type { MethodCounts } from './method-table.js';
import type { RpcCounts } from './rpc-counts.js';
import type { DurationCounts, Exemplar } from './duration-counts.js';

/** One line of an exposition. */
interface Sample {
  /** The sample's name if it differs from the metric's: `_bucket`, `_sum` and `_count` of a histogram. */
  readonly metricName?: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
  /** Shown only in the OpenMetrics format. */
  readonly exemplar?: Exemplar;
}

/** The name of a metric and the source of its samples. */
interface TallyDescription {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: () => Iterable<Sample>;
}

/**
 * A metric whose numbers are counted elsewhere and read by a scrape. prom-client builds a string from a set of labels for
 * each lookup; for the counts of an RPC, this would cost more than following the RPC.
 */
class TalliedMetric extends Gauge {
  readonly type: TallyDescription['type'];
  readonly #description: TallyDescription;

  constructor(description: TallyDescription) {
    super({ name: description.name, help: description.help, registers: [] });
    this.type = description.type;
    this.#description = description;
  }

  override async get(): ReturnType<Gauge['get']> {
    return { ...(await super.get()), values: [...this.#description.samples()] };
  }
}

/** The samples of a histogram with the given labels. */
export function* histogramSamples(
  name: string,
  labels: Record<string, string | number>,
  durations: DurationCounts,
): Iterable<Sample> {
  for (const { le, count, exemplar } of durations.cumulative()) {
    yield {
      metricName: `${name}_bucket`,
      labels: { ...labels, le },
      value: count,
      ...(exemplar && { exemplar }),
    };
  }
  yield { metricName: `${name}_sum`, labels, value: durations.sumSeconds };
  yield { metricName: `${name}_count`, labels, value: durations.count };
}

const PREFIX = 'gitaly_tls_proxy_';
const HANDLING_SECONDS = 'grpc_server_handling_seconds';
const SIDECHANNEL_SECONDS = `${PREFIX}sidechannel_duration_seconds`;

/** A sample with the labels of its method or listener. */
type Of<Counts> = (
  counts: Counts,
) => Iterable<{ readonly labels?: Record<string, string>; readonly value: number }>;

/**
 * The metrics of calls and sidechannels. Those without the program's prefix have the names and labels of
 * go-grpc-prometheus, which Gitaly exports too: a dashboard for Gitaly also works with the calls seen by the proxy.
 */
export function rpcMetrics(counts: RpcCounts): TalliedMetric[] {
  return [...methodMetrics(counts), ...listenerMetrics(counts)].map(
    (description) => new TalliedMetric(description),
  );
}

function methodMetrics({ methods }: RpcCounts): TallyDescription[] {
  const labelsOf = ({ type, service, method }: MethodCounts) => ({
    grpc_type: type,
    grpc_service: service,
    grpc_method: method,
  });
  const counter = (name: string, help: string, of: Of<MethodCounts>): TallyDescription => ({
    name,
    help,
    type: 'counter',
    *samples(): Iterable<Sample> {
      for (const method of methods.all())
        for (const { labels, value } of of(method))
          yield { labels: { ...labelsOf(method), ...labels }, value };
    },
  });
  // The first metric exists for every known method, so that rates are correct from the first call; the others once used.
  const ifUsed = (method: MethodCounts, value: number) => (method.started > 0 ? [{ value }] : []);
  return [
    counter('grpc_server_started_total', 'RPCs started by callers.', ({ started }) => [{ value: started }]),
    counter('grpc_server_handled_total', 'RPCs that ended, by status code.', ({ handled }) =>
      [...handled].map(([code, value]) => ({ labels: { grpc_code: code }, value })),
    ),
    counter('grpc_server_msg_received_total', 'Messages sent by callers.', (method) =>
      ifUsed(method, method.received),
    ),
    counter('grpc_server_msg_sent_total', 'Messages sent to callers.', (method) =>
      ifUsed(method, method.sent),
    ),
    {
      name: HANDLING_SECONDS,
      help: 'Time from the first bytes of an RPC to its end, as seen by the proxy, in seconds.',
      type: 'histogram',
      *samples(): Iterable<Sample> {
        for (const method of methods.all())
          if (method.durations.count > 0)
            yield* histogramSamples(HANDLING_SECONDS, labelsOf(method), method.durations);
      },
    },
  ];
}

function listenerMetrics(counts: RpcCounts): TallyDescription[] {
  const perListener = (
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    of: Of<ListenerCounts>,
  ): TallyDescription => ({
    name: `${PREFIX}${name}`,
    help,
    type,
    *samples(): Iterable<Sample> {
      for (const [listener, ofListener] of counts.listeners)
        for (const { labels, value } of of(ofListener)) yield { labels: { listener, ...labels }, value };
    },
  });
  const perGroup = (of: Of<CallGroupCounts>): Of<ListenerCounts> =>
    function* ({ groups }) {
      for (const group of GROUPS) {
        const [protocol, direction] = GROUP_LABELS[group];
        for (const { labels, value } of of(groups[group]))
          yield { labels: { protocol, direction, ...labels }, value };
      }
    };
  const bySide = (sides: Readonly<Record<'request' | 'response', number>>) =>
    (['request', 'response'] as const).map((side) => ({ labels: { side }, value: sides[side] }));
  const byDirection = (directions: Readonly<Record<'to_upstream' | 'to_client', number>>) =>
    (['to_upstream', 'to_client'] as const).map((direction) => ({
      labels: { direction },
      value: directions[direction],
    }));
  return [
    perListener(
      'counter',
      'rpcs_total',
      'RPCs started, by protocol, direction and effect on the repository.',
      perGroup(({ started }) => [...started].map(([operation, value]) => ({ labels: { operation }, value }))),
    ),
    perListener(
      'counter',
      'rpcs_unknown_total',
      'RPCs started by clients that the table of RPCs does not have. The policy treats them as mutators.',
      ({ groups }) => [{ value: unknownCalls(groups) }],
    ),
    perListener(
      'counter',
      'policy_decisions_total',
      'Decisions of the policy on RPCs, by rule and by decision: allowed, denied, or would_deny in mode report.',
      ({ decisions }) =>
        [...decisions].flatMap(([rule, outcomes]) =>
          Object.entries(outcomes).map(([decision, value]) => ({ labels: { rule, decision }, value })),
        ),
    ),
    perListener(
      'gauge',
      'rpcs_in_flight',
      'RPCs currently in flight.',
      perGroup(({ inFlight }) => [{ value: inFlight }]),
    ),
    perListener(
      'counter',
      'rpcs_lost_total',
      'RPCs whose end is unknown because their connection could no longer be followed.',
      perGroup(({ lost }) => [{ value: lost }]),
    ),
    perListener(
      'counter',
      'rpc_payload_bytes_total',
      'Bytes of messages, by side: request or response.',
      perGroup(({ payloadBytes }) => bySide(payloadBytes)),
    ),
    perListener(
      'counter',
      'rpc_stall_seconds_total',
      'Time during which a side could not send on an RPC because the flow-control window was empty.',
      perGroup(({ stalls }) => {
        const { client: request, server: response } = stallSeconds(stalls);
        return bySide({ request, response });
      }),
    ),
    perListener('counter', 'sidechannels_total', 'Sidechannels opened by Gitaly.', ({ sidechannels }) => [
      { value: sidechannels.opened },
    ]),
    perListener('gauge', 'sidechannels_active', 'Sidechannels currently open.', ({ sidechannels }) => [
      { value: sidechannels.active },
    ]),
    perListener(
      'counter',
      'sidechannels_cut_total',
      'Sidechannels that were not closed on both sides.',
      ({ sidechannels }) => [{ value: sidechannels.cut }],
    ),
    perListener(
      'counter',
      'sidechannel_bytes_total',
      'Bytes relayed on sidechannels, by direction.',
      ({ sidechannels }) => byDirection(sidechannels.bytes),
    ),
    perListener(
      'counter',
      'sidechannel_stall_seconds_total',
      'Time during which a side could not send on a sidechannel because the flow-control window was empty, by direction.',
      ({ sidechannels }) => {
        const { client, server } = stallSeconds(sidechannels.stalls);
        return byDirection({ to_upstream: client, to_client: server });
      },
    ),
    {
      name: SIDECHANNEL_SECONDS,
      help: 'Duration of sidechannels.',
      type: 'histogram',
      *samples(): Iterable<Sample> {
        for (const [listener, { sidechannels }] of counts.listeners)
          yield* histogramSamples(SIDECHANNEL_SECONDS, { listener }, sidechannels.durations);
      },
    },
    perListener(
      'counter',
      'inspector_lost_total',
      'Connections whose calls could no longer be followed, or that were closed because of a limit, by reason.',
      ({ lost }) => [...lost].map(([reason, value]) => ({ labels: { reason }, value })),
    ),
  ];
}

function unknownCalls(groups: ListenerCounts['groups']): number {
  const ofClients = [groups['http2 to_upstream'], groups['backchannel to_upstream']];
  return ofClients.reduce((sum, { started }) => sum + (started.get('unknown') ?? 0), 0);
}

/** Seconds during which each end could not send, until now. */
function stallSeconds(stalls: StallTallies): Readonly<Record<'client' | 'server', number>> {
  const nowMs = performance.now();
  return { client: stalls.client.totalMs(nowMs) / 1000, server: stalls.server.totalMs(nowMs) / 1000 };
}

const GROUP_LABELS: Readonly<Record<CallGroup, readonly [protocol: string, direction: string]>> = {
  'http2 to_upstream': ['http2', 'to_upstream'],
  'backchannel to_upstream': ['backchannel', 'to_upstream'],
  'backchannel to_client': ['backchannel', 'to_client'],
};

const GROUPS: readonly CallGroup[] = [
  'http2 to_upstream',
  'backchannel to_upstream',
  'backchannel to_client',
];
