import type { ListenerSettings, OpeningSettings } from '../connection/opening-settings.js';
import type { CurrentService, HttpService } from '../http/service.js';
import type { UpstreamMetadata } from '../policy/upstream-metadata.js';
import type { Policy } from '../policy/policy.js';
import type { ServedListener } from './serving-plan.js';

/** How the connections of one listener are served. */
export interface Serving {
  readonly listener: ServedListener;
  readonly settings: ListenerSettings;
  /** The fields that `settings.metadata` has once this is in effect. */
  readonly metadata: UpstreamMetadata;
  /** The policy that `settings.policy` has once this is in effect. */
  readonly policy: Policy | undefined;
  /** Set if and only if HTTP requests are served. */
  readonly http: HttpServing | undefined;
}

/** How the HTTP requests of one listener are served. */
export interface HttpServing {
  readonly service: HttpService;
  readonly current: CurrentService;
}

/** The parts of a listener that a reload keeps. Undefined parts are built anew. */
export interface Reused {
  /** Counters and log of its connections. */
  readonly events: OpeningSettings['events'] | undefined;
  /** The policy that its open connections follow. */
  readonly policy: OpeningSettings['policy'] | undefined;
  /** The fields that are added to the calls on its open connections. */
  readonly metadata: OpeningSettings['metadata'] | undefined;
  /** Its TLS sessions can be resumed across the reload. */
  readonly terminator: OpeningSettings['terminator'];
  readonly requests: HttpService['requests'] | undefined;
  /** The idle connections to its upstream. */
  readonly pool: HttpService['pool'] | undefined;
  /** Its open HTTP connections follow the new configuration. */
  readonly current: CurrentService | undefined;
}

/**
 * Returns the parts of a listener's previous serving that the next one keeps:
 *
 * - the terminator, while certificates, keys, CAs, CRLs and TLS settings are the same;
 * - the policy and the added fields in effect, which the next ones replace;
 * - the counters and the log, while address and protocol of the listener are the same;
 * - the idle connections to an HTTP upstream, while upstream, TLS and `timeouts.dial` are the same as well.
 */
export function reuse(previous: Serving | undefined, next: ServedListener): Reused {
  if (!previous) return NOTHING;
  const { configuration, fingerprint } = next;
  const before = previous.listener.configuration;
  const isSameTls = previous.listener.fingerprint === fingerprint;
  const isSameKind =
    before.listen.url === configuration.listen.url &&
    (before.http === undefined) === (configuration.http === undefined);
  const isSameUpstream =
    isSameKind && before.forwarding.fallback?.url === configuration.forwarding.fallback?.url;
  const service = isSameUpstream ? previous.http?.service : undefined;
  const isSameDial = isSameTls && before.timeouts.dialMs === configuration.timeouts.dialMs;
  return {
    policy: previous.settings.policy,
    metadata: previous.settings.metadata,
    events: isSameKind ? previous.settings.events : undefined,
    terminator: isSameTls ? previous.settings.terminator : undefined,
    current: previous.http?.current,
    requests: service?.requests,
    pool: isSameDial ? service?.pool : undefined,
  };
}

const NOTHING: Reused = {
  policy: undefined,
  metadata: undefined,
  events: undefined,
  terminator: undefined,
  requests: undefined,
  pool: undefined,
  current: undefined,
};
