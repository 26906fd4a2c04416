import { createSecureContext, type SecureContextOptions } from 'node:tls';

import type {
  CertificatePair,
  Configuration,
  KeyPath,
  ListenerConfiguration,
  Problem,
  ServerTls,
  UpstreamTls,
  ServerNameRoute,
} from '../config/model.js';
import { loadPair, type LoadedPair, type PairRole } from '../x509/certificate-pair.js';
import { dateFault, dateProblem } from '../x509/dated.js';
import { datedOf } from './material-dates.js';
import { isoDate } from '../x509/iso-date.js';
import { loadRevocations, type RevocationLists } from '../x509/revocation.js';
import type { SessionStart } from './session-epochs.js';
import { loadSystemTrust, loadTrust, type TrustAnchors } from '../x509/trust.js';
import { namesFor } from '../config/server-name.js';
import { describeNames, type CertificateNames } from '../x509/certificate-names.js';

/** All material that a TLS listener needs from files, read and validated together. */
export interface ServerMaterial {
  readonly settings: ServerTls;
  /** In the order of the configuration; the first is the default. */
  readonly pairs: readonly LoadedPair[];
  readonly clientCa: TrustAnchors | undefined;
  readonly revocations: RevocationLists | undefined;
}

/** All material that a TLS upstream needs from files. */
export interface UpstreamMaterial {
  readonly settings: UpstreamTls;
  readonly pair: LoadedPair | undefined;
  /** PEM texts. */
  readonly ca: readonly string[];
  /** The authorities, if the configuration names them (the system's trust store is not watched). */
  readonly anchors: TrustAnchors | undefined;
}

/** The files of one listener. */
export interface ListenerMaterial {
  readonly server: ServerMaterial | undefined;
  readonly upstream: UpstreamMaterial | undefined;
}

/** A certificate, its key and its names. */
export type ServerPair = Pick<LoadedPair, 'certificatePem' | 'keyPem' | 'names'>;

/** The material for the server's side of TLS, as plain values that can be sent to another process. */
export interface ServerParts {
  readonly settings: Pick<ServerTls, 'minVersion' | 'clientAuth' | 'protocols'>;
  /** The first is the default. */
  readonly pairs: readonly ServerPair[];
  /** PEM texts; `undefined` if no client certificate is requested. */
  readonly clientCa: readonly string[] | undefined;
  /** PEM texts. */
  readonly revocations: readonly string[] | undefined;
  readonly sessions: SessionStart;
  /** The times, in ms, at which the verdict on a client may change without new files: CAs and CRLs become valid or expire. */
  readonly sessionDates: readonly number[];
}

/** The material for the client's side of TLS, as plain values. */
export interface UpstreamParts {
  readonly settings: Pick<UpstreamTls, 'minVersion' | 'serverName' | 'protocol'>;
  readonly pair: Pick<LoadedPair, 'certificatePem' | 'keyPem'> | undefined;
  /** PEM texts. */
  readonly ca: readonly string[];
}

/** The plain values of what was read. */
export function serverParts(material: ServerMaterial, sessions: SessionStart): ServerParts {
  const { settings, pairs, clientCa, revocations } = material;
  return {
    settings: {
      minVersion: settings.minVersion,
      clientAuth: settings.clientAuth,
      protocols: settings.protocols,
    },
    pairs: pairs.map(({ certificatePem, keyPem, names }) => ({ certificatePem, keyPem, names })),
    clientCa: clientCa?.map(({ pem }) => pem),
    revocations: revocations?.pem,
    sessions,
    sessionDates: sessionDatesOf(material),
  };
}

function sessionDatesOf({ clientCa, revocations }: ServerMaterial): number[] {
  const dates = [
    ...(clientCa ?? []).flatMap(({ x509 }) => [x509.validFrom, x509.validTo]),
    ...(revocations?.lists ?? []).flatMap(({ thisUpdate, nextUpdate }) => [thisUpdate, nextUpdate]),
  ];
  return dates.flatMap((date) => date?.getTime() ?? []);
}

/** The plain values of what was read. */
export function upstreamParts({ settings, pair, ca }: UpstreamMaterial): UpstreamParts {
  return {
    settings: {
      minVersion: settings.minVersion,
      serverName: settings.serverName,
      protocol: settings.protocol,
    },
    pair: pair && { certificatePem: pair.certificatePem, keyPem: pair.keyPem },
    ca,
  };
}

/** The content of all files: one entry per listener, in the configuration's order, or the problems that prevent this. */
interface MaterialResult {
  readonly listeners: readonly ListenerMaterial[] | undefined;
  readonly problems: readonly Problem[];
  /** Key pairs whose files contain a certificate that is out of date: the previous one is still used, because it is valid. */
  readonly kept: readonly KeptPair[];
}

/** A key pair in use that differs from its files. */
export interface KeptPair {
  /** When the certificate in the file becomes valid; `undefined`: it has expired. */
  readonly replacedFrom: Date | undefined;
}

/** The parameters for validating files. */
interface Loading {
  readonly now: Date;
  /** The material in use. */
  readonly former: readonly LoadedPair[];
  readonly problems: Problem[];
  readonly kept: KeptPair[];
}

/**
 * Reads and validates every certificate, key, CA and CRL that a configuration names. All problems are found in one pass. If one
 * of them is an error, nothing is returned, so that a configuration is never partly applied.
 *
 * @param former - the material in use: a valid certificate is not replaced with an invalid one.
 */
export async function loadMaterial(
  configuration: Configuration,
  now: Date,
  former: readonly ListenerMaterial[] = [],
): Promise<MaterialResult> {
  const formerPairs = former.flatMap(({ server, upstream }) => [
    ...(server?.pairs ?? []),
    ...(upstream?.pair ? [upstream.pair] : []),
  ]);
  const problems: Problem[] = [];
  const kept: KeptPair[] = [];
  const listeners: ListenerMaterial[] = [];
  for (const listener of configuration.listeners) {
    const loading: Loading = { now, former: formerPairs, problems: [], kept };
    const material = await loadListenerMaterial(listener, loading);
    if (material !== undefined && !loading.problems.some(isError)) listeners.push(material);
    problems.push(...loading.problems);
  }
  const unique = withoutRepeats(problems);
  return { listeners: unique.some(isError) ? undefined : listeners, problems: unique, kept };
}

function isError(problem: Problem): boolean {
  return problem.severity === 'error';
}

async function loadListenerMaterial(
  listener: ListenerConfiguration,
  loading: Loading,
): Promise<ListenerMaterial | undefined> {
  const { now, problems } = loading;
  const server = listener.tls && (await loadServer(listener.tls, loading));
  const upstream = listener.upstreamTls && (await loadUpstream(listener.upstreamTls, listener.key, loading));
  if (server) problems.push(...uncoveredRoutes(listener.forwarding.routes, server.pairs));
  if ((listener.tls && !server) || (listener.upstreamTls && !upstream)) return undefined;
  const material = { server, upstream };
  // The dates of key pairs were reported with their files.
  const others = datedOf(material).filter(({ role }) => role !== 'server' && role !== 'upstream_client');
  problems.push(...others.flatMap((dated) => dateProblem(dated, now) ?? []));
  return material;
}

async function loadServer(settings: ServerTls, loading: Loading): Promise<ServerMaterial | undefined> {
  const { now, problems } = loading;
  const pairs: LoadedPair[] = [];
  for (const setting of settings.certificates) {
    const pair = await loadValidPair(setting, 'server', loading);
    if (pair === undefined) continue;
    pairs.push(pair);
    // Detects what Node's TLS does not accept (a key too small, a malformed extension) before a handshake does.
    tryContext(
      { cert: pair.certificatePem, key: pair.keyPem },
      setting.certificate.key,
      setting.certificate.path,
      problems,
    );
  }
  const clientCa = settings.clientCa && (await loadTrust(settings.clientCa, problems));
  const revocations =
    settings.clientCrl && (await loadRevocations(settings.clientCrl, now, problems, clientCa));
  if (pairs.length < settings.certificates.length) return undefined;
  if (settings.clientCa && !clientCa) return undefined;
  if (settings.clientCrl && !revocations) return undefined;
  return { settings, pairs, clientCa, revocations };
}

async function loadUpstream(
  settings: UpstreamTls,
  listenerKey: KeyPath,
  loading: Loading,
): Promise<UpstreamMaterial | undefined> {
  const { problems } = loading;
  const anchors = settings.ca && (await loadTrust(settings.ca, problems));
  const pair = settings.certificate && (await loadValidPair(settings.certificate, 'client', loading));
  if ((settings.ca && !anchors) || (settings.certificate && !pair)) return undefined;
  const ca = anchors ? anchors.map(({ pem }) => pem) : await loadSystemTrust();
  const options = { ca, ...(pair && { cert: pair.certificatePem, key: pair.keyPem }) };
  if (!tryContext(options, settings.certificate?.certificate.key ?? listenerKey, undefined, problems))
    return undefined;
  return { settings, pair, ca, anchors };
}

/** Reads a key pair. Keeps the previous one of the same file if that is valid and the new one is not. */
async function loadValidPair(
  setting: CertificatePair,
  role: PairRole,
  { now, former, problems, kept }: Loading,
): Promise<LoadedPair | undefined> {
  const pair = await loadPair(setting, role, now, problems);
  const fault = pair && dateFault(pair.dated, now);
  if (!pair || fault === undefined) return pair;
  const { path, key } = setting.certificate;
  const previous = former.find(
    ({ dated }) =>
      dated.role === pair.dated.role && dated.setting.path === path && dateFault(dated, now) === undefined,
  );
  if (!previous) return pair;
  problems.push({
    severity: 'warning',
    key,
    message:
      `${path}: the certificate in this file ${fault === 'expired' ? `expired on ${isoDate(pair.leaf.validTo)}` : `is not valid before ${isoDate(pair.leaf.validFrom)}`}; ` +
      `the previous one is still used, it is valid until ${isoDate(previous.leaf.validTo)}; replace the file with a valid certificate`,
    value: path,
  });
  const [period] = pair.dated.periods;
  kept.push({ replacedFrom: fault === 'not_yet_valid' ? period?.from : undefined });
  return previous;
}

function tryContext(
  options: SecureContextOptions,
  key: KeyPath,
  value: string | undefined,
  problems: Problem[],
): boolean {
  try {
    createSecureContext(options);
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    problems.push({
      severity: 'error',
      key,
      message: `refused by the TLS library: ${reason}`,
      ...(value && { value }),
    });
    return false;
  }
}

/** Removes duplicates: listeners that share the default `tls:` block report the same problems. */
function withoutRepeats(problems: readonly Problem[]): Problem[] {
  const seen = new Map<string, Problem>();
  for (const problem of problems) seen.set(JSON.stringify([problem.key, problem.message]), problem);
  return [...seen.values()];
}

/**
 * Warns about names in `forward_by_server_name` that no certificate of the listener has. Clients that request such a name
 * reject the certificate that they receive.
 */
function uncoveredRoutes(
  routes: readonly ServerNameRoute[],
  pairs: readonly { readonly names: CertificateNames }[],
): Problem[] {
  const held = pairs.flatMap(({ names }) => names.dns);
  const isCovered = ({ name }: ServerNameRoute): boolean =>
    // A wildcard may match several names, each with a certificate of its own.
    held.some((other) => namesFor(name).includes(other) || namesFor(other).includes(name));
  const known = describeNames({ dns: held, ip: [], uri: [] });
  return routes
    .filter((route) => !isCovered(route))
    .map(({ key, name }) => ({
      severity: 'warning',
      key,
      message: `no certificate of this listener has this name, so clients that request it will reject the certificate: add one to \`certificates\` (names in the certificates: ${known})`,
      value: name,
    }));
}
