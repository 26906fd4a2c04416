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

/** Returns the parts of a listener's previous serving that the next one keeps. The next policy and added fields replace the previous ones in place. */
export function reuse(previous: Serving | undefined, next: ServedListener): Reused {
  if (!previous) return NOTHING;
  const { settings, http } = previous;
  const isKept = keptParts(previous.listener, next);
  return {
    policy: settings.policy,
    metadata: settings.metadata,
    events: isKept.events ? settings.events : undefined,
    terminator: isKept.terminator ? settings.terminator : undefined,
    requests: isKept.requests ? http?.service.requests : undefined,
    pool: isKept.pool ? http?.service.pool : undefined,
    current: http?.current,
  };
}

/**
 * Decides which parts of a listener a reload keeps:
 *
 * - the terminator, while certificates, keys, CAs, CRLs and TLS settings are the same;
 * - the counters and the log, while address and protocol of the listener are the same; those of HTTP requests, while the upstream
 *   is the same as well;
 * - the idle connections to an HTTP upstream, while TLS and `timeouts.dial` are the same as well.
 */
export function keptParts(
  previous: ServedListener,
  next: ServedListener,
): Readonly<Record<Exclude<keyof Reused, 'current' | 'policy' | 'metadata'>, boolean>> {
  const [before, after] = [previous.configuration, next.configuration];
  const terminator = previous.fingerprint === next.fingerprint;
  const events =
    before.listen.url === after.listen.url && (before.http === undefined) === (after.http === undefined);
  const requests = events && before.forwarding.fallback?.url === after.forwarding.fallback?.url;
  const pool = requests && terminator && before.timeouts.dialMs === after.timeouts.dialMs;
  return { events, terminator, requests, pool };
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
