import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import { isTlsScheme, place } from '../../config/address.js';
import { networkCheck } from '../../config/cidr.js';
import { formatHostPort } from '../../config/host-port.js';
import type { Address } from '../../config/model.js';
import { BackchannelStream } from '../../gitaly-client/backchannel-stream.js';
import { CallFailure, GrpcClient, NotGrpc } from '../../gitaly-client/grpc-client.js';
import { checkHealth, type Health } from '../../gitaly-client/check-health.js';
import { callServerInfo, readServerInfo, type ServerInfo } from '../../gitaly-client/server-info.js';
import { gitalyAuthorization } from '../../gitaly-client/gitaly-token.js';
import { createDialer } from '../../upstream/dialer.js';
import { UpstreamFailure } from '../../upstream/failure.js';
import { TlsClient } from '../../upstream/tls-client.js';
import { findClockDifference, type Secrecy } from './clock-difference.js';
import { connectTo } from './connect-step.js';
import type { Endpoint } from './endpoints.js';
import { failed, passed, skipped, STEP_TITLES, type CheckFinding } from './check-step.js';
import type { CheckSettings, CheckTarget } from './named-target.js';
import { connectTls, findTls } from './tls-steps.js';

type Wire = 'http2' | 'backchannel';

/**
 * The source of the answer to a health call: Gitaly, a Gitaly that refuses our token, a proxy whose Gitaly is down, or
 * something else.
 */
type Answer = 'gitaly' | 'token_refused' | 'unavailable' | 'tls' | 'none';

export interface HealthOutcome {
  readonly finding: CheckFinding;
  readonly answer: Answer;
}

/** The facts that are known before a health call. */
export interface HealthContext {
  /** Whether the token may be sent: the server's certificate has been verified. */
  readonly maySendToken: boolean;
  /** The outcome of the same call over HTTP/2, for the one over the backchannel. */
  readonly overHttp2: HealthOutcome | undefined;
}

/** Makes a health call as Rails does (`http2`), or as Workhorse and gitlab-shell do (`backchannel`). */
export async function checkHealthOver(
  wire: Wire,
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
  { maySendToken, overHttp2 }: HealthContext,
): Promise<HealthOutcome> {
  try {
    const isSigned = maySendToken && settings.token !== undefined;
    const health = await callHealthOf(wire, endpoint, target, settings, isSigned);
    return healthOutcome(health, isSigned);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    if (error instanceof NotGrpc) return { finding: failed(cause, WEB_SERVER), answer: 'none' };
    if (wire === 'backchannel' && overHttp2) return overBackchannel(cause, error, overHttp2);
    const tls = await tlsAt(endpoint, target, settings);
    if (tls !== undefined) return { finding: speaksTls(tls, target), answer: 'tls' };
    return {
      finding: failed(
        cause,
        'the port accepts connections but does not answer as Gitaly does: is it the right port? See its log',
      ),
      answer: 'none',
    };
  }
}

/** Makes one health call on its own connection. It is signed with the token only if the server has been verified. */
export async function callHealthOf(
  wire: Wire,
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
  isSigned: boolean,
): Promise<Health> {
  const { timeoutMs, token, nowMs } = settings;
  const socket = isSigned
    ? await connectVerified(endpoint, target, settings)
    : await connectUnverified(endpoint, target, settings);
  const connection = grpcOn(wire === 'backchannel' ? new BackchannelStream(socket) : socket, target);
  try {
    const authorization = isSigned && token !== undefined ? gitalyAuthorization(token, nowMs()) : undefined;
    return await checkHealth(connection, timeoutMs, authorization);
  } finally {
    connection.close();
  }
}

async function connectUnverified(
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<Socket> {
  const raw = await connectTo(endpoint, target, settings);
  return target.tls ? connectTls(raw, target, target.tls, settings.timeoutMs) : raw;
}

/** The backchannel is the cause only if the same server answers over HTTP/2. */
function overBackchannel(cause: string, error: unknown, { answer, finding }: HealthOutcome): HealthOutcome {
  const fix =
    answer === 'unavailable'
      ? (finding.fix ?? '')
      : answer === 'tls' || answer === 'none' || !(error instanceof CallFailure)
        ? 'gRPC over HTTP/2 fails as well: see that step'
        : 'clones and fetches need it: a proxy in front of Gitaly must pass TCP and not terminate HTTP/2';
  return { finding: failed(cause, fix), answer: 'none' };
}

/** The server speaks TLS at an address that is dialled in plaintext. */
async function tlsAt(
  endpoint: Endpoint,
  { address, tls, preamble }: CheckTarget,
  settings: CheckSettings,
): Promise<string | undefined> {
  if (tls || address.scheme === 'unix') return undefined;
  try {
    return await findTls(await connectTo(endpoint, { preamble }, settings), address.host, settings);
  } catch (error) {
    if (error instanceof UpstreamFailure) return undefined;
    throw error;
  }
}

function speaksTls(description: string, { address, role }: CheckTarget): CheckFinding {
  const url = `tls://${place(address)}`;
  const fix = {
    address: `check ${url}, and use it as gitaly_address`,
    forward: `forward to ${url}`,
    listen: 'another program listens there, or the running proxy has another configuration: restart it',
  };
  return failed(
    `the server speaks TLS on this port (${description}), but the address is plaintext`,
    fix[role],
    {
      facts: { speaks_tls: true },
    },
  );
}

const WEB_SERVER = 'a web server answers, not Gitaly: is it the right port?';
const NOT_GITALY = 'the server speaks gRPC but is not Gitaly';
const NO_UPSTREAM =
  'the proxy that answers cannot reach Gitaly: check that Gitaly runs, and its address in the configuration of that proxy';

function healthOutcome(health: Health, isSigned: boolean): HealthOutcome {
  switch (health.kind) {
    case 'serving':
      return { finding: passed('SERVING'), answer: 'gitaly' };
    case 'wants_token':
      return isSigned
        ? {
            finding: failed(
              `the token is refused (${health.words})`,
              `see the step "${STEP_TITLES.server_info}"`,
            ),
            answer: 'token_refused',
          }
        : {
            finding: passed(`reachable, authentication required (${health.words})`),
            answer: 'gitaly',
          };
    case 'refuses_certificate':
      return {
        finding: failed(
          `client certificate missing or refused (${health.words})`,
          `see the step "${STEP_TITLES.client_certificate}"`,
        ),
        answer: 'none',
      };
    case 'not_serving':
      return {
        finding: failed(
          health.words,
          'Gitaly runs but is not serving: it is starting or stopping; see its log',
        ),
        answer: 'gitaly',
      };
    case 'unknown_service':
      return { finding: failed(health.words, NOT_GITALY), answer: 'gitaly' };
    case 'error':
      return health.words.startsWith('Unavailable')
        ? { finding: failed(health.words, NO_UPSTREAM), answer: 'unavailable' }
        : { finding: failed(health.words, 'see the log of Gitaly'), answer: 'gitaly' };
  }
}

/**
 * Reads Gitaly's version and storages. The token is sent only on a connection on which the server's certificate has been
 * verified.
 */
export async function checkServerInfo(
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<CheckFinding> {
  const { timeoutMs, token, nowMs } = settings;
  const connection = grpcOn(await connectVerified(endpoint, target, settings), target);
  try {
    const authorization = token === undefined ? undefined : gitalyAuthorization(token, nowMs());
    const { code, message, response } = await callServerInfo(connection, timeoutMs, authorization);
    const words = `${code}${message === '' ? '' : `: ${message}`}`;
    if (response) {
      const info = readServerInfo(response);
      if (info) return infoFinding(info, token !== undefined);
      return failed('the response is not a ServerInfoResponse', NOT_GITALY);
    }
    if (code === 'Unimplemented') return failed(words, NOT_GITALY);
    const isRefused = code === 'PermissionDenied' || code === 'Unauthenticated';
    if (!isRefused) return failed(words, 'see the log of Gitaly');
    if (token === undefined) return skipped(`Gitaly requires a token (${words}): pass it with --token-file`);
    return refusedToken(
      words,
      await findClockDifference(connection, token, secrecyOf(endpoint.address), settings),
    );
  } finally {
    connection.close();
  }
}

/** A connection that may carry a token: with TLS, the server's certificate has been verified on it. */
function connectVerified(
  { address }: Endpoint,
  { tls, preamble }: CheckTarget,
  { timeoutMs }: CheckSettings,
): Promise<Socket> {
  const client =
    tls &&
    new TlsClient({
      settings: { minVersion: tls.minVersion, serverName: tls.serverName, protocol: 'h2' },
      pair: tls.pair,
      ca: tls.anchors.pem,
    });
  return createDialer(address, client, timeoutMs).connect(preamble);
}

const isLoopback = networkCheck(['127.0.0.0/8', '::1/128']);

/** The certificate of a TLS server has been verified when a token is sent. */
function secrecyOf(address: Address): Secrecy {
  return address.scheme === 'unix' || isTlsScheme(address.scheme) || isLoopback(address.host)
    ? 'private'
    : 'open';
}

function refusedToken(words: string, differenceMs: number | undefined): CheckFinding {
  if (differenceMs === undefined)
    return failed(
      `the token is refused, whatever its time (${words})`,
      "it is not Gitaly's token: compare it with gitaly['configuration'][:auth][:token] on that node, or with Praefect's",
      { facts: { token: 'wrong' } },
    );
  const seconds = Math.round(Math.abs(differenceMs) / 1000);
  return failed(
    `the token is right, but refused because of its time: the server's clock is about ${seconds} s ${differenceMs > 0 ? 'ahead of' : 'behind'} this one (${words})`,
    'synchronise both clocks with NTP (chrony, systemd-timesyncd): Gitaly accepts tokens within 30 s of its own time',
    { facts: { token: 'right', clock_difference_seconds: Math.round(differenceMs / 1000) } },
  );
}

function infoFinding({ serverVersion, gitVersion, storages }: ServerInfo, hadToken: boolean): CheckFinding {
  const facts = { facts: { server_version: serverVersion, git_version: gitVersion, storages } };
  const descriptions = storages.map(
    ({ name, readable, writeable }) =>
      `${name} (${readable ? 'readable' : 'NOT READABLE'}, ${writeable ? 'writeable' : 'NOT WRITEABLE'})`,
  );
  // A custom build may not know its version.
  const version = serverVersion === '' ? 'of unknown version' : serverVersion;
  const detail = `Gitaly ${version}, git ${gitVersion}, storages: ${descriptions.join(', ') || 'none'}`;
  if (!storages.every(({ readable, writeable }) => readable && writeable))
    return failed(
      detail,
      'check the path of the storage on that node, its owner (git), its disk and its mount',
      facts,
    );
  return hadToken ? passed(detail, facts) : passed(`${detail}; no token is needed`, facts);
}

function grpcOn(stream: Duplex, { address, tls }: CheckTarget): GrpcClient {
  const authority = address.scheme === 'unix' ? 'localhost' : formatHostPort(address);
  return new GrpcClient(stream, authority, tls ? 'https' : 'http');
}
