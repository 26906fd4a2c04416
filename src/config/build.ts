import { availableParallelism } from 'node:os';

import { isAnyPort, isHttpScheme, isTlsScheme, place } from './address.js';
import { reportError, reportWarning, type BuildContext, fileSetting, type Written } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type { AbuseLimits } from '../inspect/abuse-limits.js';
import type { Rate } from '../inspect/rate-bucket.js';
import { parseDuration } from './duration.js';
import { buildForwarding, upstreamsOf } from './forwarding.js';
import { formatHostPort } from './host-port.js';
import { buildHttpSettings } from './http-settings.js';
import type {
  Address,
  Configuration,
  ConnectionLimits,
  Forwarding,
  Inspect,
  KeyPath,
  ListenerConfiguration,
  MaxConnectionAge,
  ProxyProtocol,
  ServerTls,
  SocketSettings,
  Timeouts,
  UpstreamTls,
  HealthChecks,
  ApplicationProtocol,
  CertificatePair,
} from './model.js';
import { formatKey } from './problem.js';
import { RpcTable } from '../policy/rpc-table.js';
import { buildAudit, buildAuthorisation, buildRpcs } from './policy-settings.js';
import type { Draft, DraftListener } from './schema.js';
import { buildServerTls, pick, type TlsLayers, TLS_VERSIONS } from './server-tls.js';
import { resolveTrust } from './trust-settings.js';

/** A placeholder for an invalid address, in a configuration that is not used to run the proxy. */
const NOWHERE: Address = { scheme: 'unix', path: '', url: 'unix:' };

/**
 * Validates combinations of keys and fills in the defaults. Problems are reported to the context. The result may only be
 * used if neither the schema nor this function reported an error.
 */
export function buildConfiguration(draft: Draft, context: BuildContext): Configuration {
  const timeouts = buildTimeouts(draft);
  const maxConnections = draft.max_connections ?? DEFAULTS.maxConnections;
  const maxUnauthenticatedConnections =
    draft.max_unauthenticated_connections ?? Math.max(1, Math.floor(maxConnections / 2));
  const maxConnectionAge = buildMaxConnectionAge(draft, context);
  const abuseLimits = buildAbuseLimits(draft);
  const rpcs = buildRpcs(context, draft);
  const table = new RpcTable(rpcs);
  const listeners = (draft.listeners ?? []).flatMap((listener, index): ListenerConfiguration[] =>
    listener === undefined
      ? []
      : [
          {
            ...buildListener(context, draft, listener, ['listeners', index], table),
            timeouts,
            maxConnections,
            maxUnauthenticatedConnections,
            maxConnectionsPerSource: draft.max_connections_per_source,
            maxConnectionAge,
            abuseLimits,
          },
        ],
  );
  reportSharedAddresses(context, draft);
  return {
    listeners,
    prometheusListenAddr: draft.prometheus_listen_addr,
    adminHosts: (draft.admin_hosts ?? []).flatMap((host) => host ?? []),
    workers: draft.workers === 'auto' ? availableParallelism() : (draft.workers ?? DEFAULTS.workers),
    gracefulRestartTimeoutMs: draft.graceful_restart_timeout ?? standard(DEFAULTS.gracefulRestartTimeout),
    rpcs,
    audit: buildAudit(context, draft),
    healthChecks: buildHealthChecks(draft, context),
    logging: {
      level: draft.logging?.level ?? DEFAULTS.logging.level,
      format: draft.logging?.format ?? DEFAULTS.logging.format,
      rpc: {
        ...(draft.logging?.rpc ?? { which: DEFAULTS.logging.rpc, slowMs: 0 }),
        sampling: draft.logging?.rpc_sampling ?? DEFAULTS.logging.rpcSampling,
      },
    },
  };
}

function buildListener(
  context: BuildContext,
  draft: Draft,
  listener: DraftListener,
  key: KeyPath,
  rpcs: RpcTable,
): Omit<ListenerConfiguration, 'timeouts' | keyof ConnectionLimits | 'maxConnectionAge' | 'abuseLimits'> {
  const { listen } = listener;
  const tlsKey = [...key, 'tls'];
  const layers: TlsLayers = [
    { value: listener.tls ?? {}, key: tlsKey },
    { value: draft.tls ?? {}, key: ['tls'] },
  ];
  if (listen !== undefined && !isTlsScheme(listen.scheme) && listener.tls !== undefined) {
    reportError(
      context,
      tlsKey,
      `\`tls\` is for tls:// and https:// listeners, but this one listens on ${listen.url}: remove it or listen with TLS`,
    );
  }
  const forwarding = buildForwarding(context, listener, key);
  const tls = buildTls(context, layers, listener, key);
  const http = buildHttpSettings(context, listener, key, tls);
  const inspect = buildInspect(listener.inspect ?? DEFAULTS.inspect);
  const facts = { key, tls, inspect, forwardsHttp: http !== undefined };
  return {
    key: context.nameKey(key),
    listen: listen ?? NOWHERE,
    forwarding,
    socket: buildSocket(context, listener, [...key, 'socket']),
    tls,
    upstreamTls: buildTlsOfUpstreams(context, listener, forwarding, [...key, 'upstream_tls']),
    http,
    proxyProtocol: buildProxyProtocol(context, listener, [...key, 'proxy_protocol', 'accept_from']),
    inspect,
    ...buildAuthorisation(context, listener, facts, rpcs),
  };
}

function buildInspect(inspect: boolean | 'required'): Inspect {
  if (inspect === 'required') return inspect;
  return inspect ? 'on' : 'off';
}

function buildSocket(
  context: BuildContext,
  { listen, socket }: DraftListener,
  key: KeyPath,
): SocketSettings | undefined {
  if (socket === undefined) return undefined;
  if (listen !== undefined && listen.scheme !== 'unix') {
    const message = `\`socket\` is for unix: listeners, but this one listens on ${listen.url}: remove it`;
    reportError(context, key, message);
    return undefined;
  }
  return { key: context.nameKey(key), mode: socket.mode, owner: socket.owner, group: socket.group };
}

function buildTls(
  context: BuildContext,
  layers: TlsLayers,
  { listen }: DraftListener,
  key: KeyPath,
): ServerTls | undefined {
  if (listen !== undefined && !isTlsScheme(listen.scheme)) return undefined;
  // An invalid address may have been meant as a tls:// one, so its certificates are checked if there are any.
  const hasCertificate =
    pick(layers, 'certificate_path') !== undefined && pick(layers, 'key_path') !== undefined;
  if (listen === undefined && !hasCertificate) return undefined;
  const scheme = listen?.scheme === 'https' ? 'https' : 'tls';
  return buildServerTls(context, layers, [...key, 'listen'], scheme);
}

function buildTlsOfUpstreams(
  context: BuildContext,
  { forward, forward_by_server_name: byName, upstream_tls: settings }: DraftListener,
  forwarding: Forwarding,
  key: KeyPath,
): UpstreamTls | undefined {
  const upstreams = upstreamsOf(forwarding);
  if (upstreams.some(({ scheme }) => isTlsScheme(scheme))) {
    const speaksHttp = upstreams.some(({ scheme }) => isHttpScheme(scheme));
    return buildUpstreamTls(context, settings ?? {}, key, speaksHttp ? 'http/1.1' : 'h2');
  }
  // An invalid address may have been meant as one with TLS.
  const hasReadAll = (byName ? Object.values(byName) : [forward]).every((upstream) => upstream !== undefined);
  if (settings !== undefined && upstreams.length > 0 && hasReadAll) {
    const urls = upstreams.map(({ url }) => url);
    const which = urls.length === 1 ? `this one is ${urls.join()}` : `these are ${urls.join(', ')}`;
    const message = `\`upstream_tls\` is for tls:// and https:// upstreams, but ${which}: remove it or forward with TLS`;
    reportError(context, key, message);
  }
  return undefined;
}

function buildProxyProtocol(context: BuildContext, listener: DraftListener, key: KeyPath): ProxyProtocol {
  const acceptFrom: string[] = [];
  for (const [index, network] of (listener.proxy_protocol?.accept_from ?? []).entries()) {
    if (network === undefined) continue;
    acceptFrom.push(network);
    if (network.endsWith('/0')) {
      const message = 'every client could claim any address: list only the networks of the load balancers';
      reportWarning(context, [...key, index], message, network);
    }
  }
  if (acceptFrom.length > 0 && listener.listen?.scheme === 'unix') {
    const message =
      'clients of a unix socket have no network address: `accept_from` only works with a listener on a port';
    reportError(context, key, message);
  }
  return { acceptFrom, send: listener.proxy_protocol?.send };
}

function buildMaxConnectionAge(draft: Draft, context: BuildContext): MaxConnectionAge | undefined {
  const { max_connection_age: ageMs, max_connection_age_grace: graceMs } = draft;
  if (ageMs === undefined) {
    if (graceMs !== undefined) {
      const message = 'has no effect without `max_connection_age`: set that too';
      reportError(context, ['max_connection_age_grace'], message);
    }
    return undefined;
  }
  for (const [index, listener] of (draft.listeners ?? []).entries()) {
    if (listener?.inspect !== false) continue;
    const message =
      'connections cannot be drained after `max_connection_age`, because their calls are not followed: ' +
      (graceMs === undefined ? 'they are kept' : 'they are reset after `max_connection_age_grace`');
    reportWarning(context, ['listeners', index, 'inspect'], message, false);
  }
  return { ageMs, graceMs };
}

function buildAbuseLimits({ abuse_limits: limits }: Draft): AbuseLimits {
  const { abuseLimits } = DEFAULTS;
  type Bucket = NonNullable<NonNullable<typeof limits>['resets']>;
  const bucket = (written: Bucket | undefined, standard: Rate): Rate => ({
    burst: written?.burst ?? standard.burst,
    perSecond: written?.rate ?? standard.perSecond,
  });
  return {
    resets: bucket(limits?.resets, abuseLimits.resets),
    lateResets: bucket(limits?.late_resets, abuseLimits.lateResets),
    controlFrames: bucket(limits?.control_frames, abuseLimits.controlFrames),
    smallFrames: bucket(limits?.small_frames, abuseLimits.smallFrames),
    oversizedHeaders: bucket(limits?.oversized_headers, abuseLimits.oversizedHeaders),
    headerListBytes: limits?.header_list_bytes ?? abuseLimits.headerListBytes,
    callsPerConnection: limits?.calls_per_connection ?? abuseLimits.callsPerConnection,
  };
}

function buildTimeouts({ timeouts }: Draft): Timeouts {
  return {
    handshakeMs: timeouts?.handshake ?? standard(DEFAULTS.timeouts.handshake),
    prefaceMs: timeouts?.preface ?? standard(DEFAULTS.timeouts.preface),
    dialMs: timeouts?.dial ?? standard(DEFAULTS.timeouts.dial),
    halfCloseMs: timeouts?.half_close ?? standard(DEFAULTS.timeouts.half_close),
    writeStallMs: timeouts?.write_stall ?? standard(DEFAULTS.timeouts.write_stall),
    idleMs: timeouts?.idle ?? standard(DEFAULTS.timeouts.idle),
  };
}

function standard(duration: string): number {
  const result = parseDuration(duration);
  if (!result.ok) throw new Error(`default ${duration}: ${result.message}`);
  return result.value;
}

/** Reports addresses that two sockets would be bound to. Binding would fail too, but without naming both places in the file. */
function reportSharedAddresses(context: BuildContext, draft: Draft): void {
  const taken = new Map<string, KeyPath>();
  const claim = (at: string, key: KeyPath, value: string): void => {
    const earlier = taken.get(at);
    if (earlier === undefined) taken.set(at, key);
    else
      reportError(
        context,
        key,
        `the address is already used by ${formatKey(context.nameKey(earlier))}: choose another`,
        value,
      );
  };
  for (const [index, listener] of (draft.listeners ?? []).entries()) {
    const listen = listener?.listen;
    if (listen !== undefined && !isAnyPort(listen))
      claim(place(listen), ['listeners', index, 'listen'], listen.url);
  }
  const admin = draft.prometheus_listen_addr;
  if (admin !== undefined && admin.port !== 0) {
    claim(formatHostPort(admin), ['prometheus_listen_addr'], formatHostPort(admin));
  }
}

/** Builds the settings of health checks. Reports settings that have no effect without health checks. */
function buildHealthChecks(draft: Draft, context: BuildContext): HealthChecks | undefined {
  const {
    health_check_interval: intervalMs,
    health_check_token_path: token,
    readiness_requires_upstream: requires = DEFAULTS.readinessRequiresUpstream,
  } = draft;
  if (intervalMs === undefined) {
    const needs = 'needs health checks: set `health_check_interval`, for example to "15s"';
    if (context.isBroken(['health_check_interval'])) return undefined;
    if (token !== undefined) reportError(context, ['health_check_token_path'], needs, token);
    if (requires) reportError(context, ['readiness_requires_upstream'], needs, requires);
    return undefined;
  }
  return {
    intervalMs,
    token:
      token === undefined
        ? undefined
        : fileSetting(context, { value: token, key: ['health_check_token_path'] }),
    readinessRequiresUpstream: requires,
  };
}

type DraftUpstreamTls = NonNullable<DraftListener['upstream_tls']>;

/**
 * Builds the TLS settings for the `tls://` or `https://` upstreams of a listener.
 *
 * @param protocol - the protocol inside TLS.
 */
function buildUpstreamTls(
  context: BuildContext,
  settings: DraftUpstreamTls,
  key: KeyPath,
  protocol: ApplicationProtocol,
): UpstreamTls {
  const ca = written(settings.ca_path, [...key, 'ca_path']);
  return {
    ca: ca === undefined && context.isBroken([...key, 'ca_path']) ? undefined : resolveTrust(context, ca),
    certificate: clientCertificate(context, settings, key),
    serverName: settings.server_name,
    minVersion: TLS_VERSIONS[settings.min_version ?? DEFAULTS.minVersion],
    protocol,
  };
}

function clientCertificate(
  context: BuildContext,
  settings: DraftUpstreamTls,
  key: KeyPath,
): CertificatePair | undefined {
  const certificateKey = [...key, 'certificate_path'];
  const keyKey = [...key, 'key_path'];
  const certificate = written(settings.certificate_path, certificateKey);
  const privateKey = written(settings.key_path, keyKey);
  if (certificate !== undefined && privateKey !== undefined) {
    return { certificate: fileSetting(context, certificate), key: fileSetting(context, privateKey) };
  }
  if (certificate !== undefined && !context.isBroken(keyKey)) {
    reportError(context, keyKey, 'missing: `certificate_path` needs its key in `key_path`');
  }
  if (privateKey !== undefined && !context.isBroken(certificateKey)) {
    reportError(context, certificateKey, 'missing: `key_path` needs its certificate in `certificate_path`');
  }
  return undefined;
}

function written(value: string | undefined, key: KeyPath): Written<string> | undefined {
  return value === undefined ? undefined : { value, key };
}
