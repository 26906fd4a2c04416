import type { Duplex } from 'node:stream';

import { isTlsScheme } from '../config/address.js';
import { networkCheck } from '../config/cidr.js';
import { formatHostPort } from '../config/host-port.js';
import type { Address } from '../config/model.js';
import { BackchannelStream } from '../probe/backchannel-stream.js';
import { CallFailure, GrpcConnection } from '../probe/grpc-connection.js';
import { checkHealth, type Health } from '../probe/health.js';
import { callServerInfo, readServerInfo, type ServerInfo } from '../probe/server-info.js';
import { gitalyAuthorization } from '../probe/token.js';
import { createDialer } from '../upstream/dialer.js';
import { TlsClient } from '../upstream/tls-client.js';
import { findClockDifference, type Secrecy } from './clock-difference.js';
import { connectTo } from './connect-step.js';
import type { Endpoint } from './endpoints.js';
import { failed, passed, skipped, type Finding } from './step.js';
import type { CheckSettings, CheckTarget } from './target.js';
import { connectTls } from './tls-steps.js';

type Wire = 'http2' | 'backchannel';

/** Makes a health call as Rails does (`http2`), or as Workhorse and gitlab-shell do (`backchannel`). */
export async function checkHealthOver(
  wire: Wire,
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<Finding> {
  const { timeoutMs } = settings;
  let connection: GrpcConnection | undefined;
  try {
    const raw = await connectTo(endpoint, target, settings);
    const socket = target.tls ? await connectTls(raw, target, target.tls, timeoutMs) : raw;
    const stream = wire === 'backchannel' ? new BackchannelStream(socket) : socket;
    connection = grpcOn(stream, target);
    return healthFinding(await checkHealth(connection, timeoutMs));
  } catch (error) {
    if (error instanceof CallFailure && wire === 'backchannel')
      return failed(
        error.message,
        'clones and fetches need it: what stands in front of Gitaly must pass TCP, not end HTTP/2',
      );
    const cause = error instanceof Error ? error.message : String(error);
    return failed(
      cause,
      'the port takes connections and does not answer as Gitaly: is it the right one, and what does its log say?',
    );
  } finally {
    connection?.close();
  }
}

function healthFinding(health: Health): Finding {
  switch (health.kind) {
    case 'serving':
      return passed('SERVING');
    case 'wants_token':
      return passed(`it answers, and wants a token (${health.words})`);
    case 'not_serving':
      return failed(health.words, 'Gitaly runs and does not serve: it starts, or stops; its log says more');
    case 'unknown_service':
      return failed(health.words, noGitaly(health.words));
    case 'error':
      return failed(
        health.words,
        health.words.startsWith('Unavailable')
          ? 'what answers has no Gitaly behind it: does that run, and is its address right there?'
          : 'the log of Gitaly says more',
      );
  }
}

/** What stands there that knows no method of Gitaly's: a status of HTTP alone is what a web server says. */
function noGitaly(words: string): string {
  return words.includes('HTTP status')
    ? 'what answers is a web server, and no Gitaly: is it the right port?'
    : 'what answers is a gRPC server, and no Gitaly';
}

/**
 * Asks Gitaly for its version and storages. The token goes to a server alone whose certificate holds, on the very
 * connection that was verified.
 */
export async function checkServerInfo(
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<Finding> {
  const { timeoutMs, token, nowMs } = settings;
  const tls = target.tls;
  const client =
    tls &&
    new TlsClient({
      settings: { minVersion: tls.minVersion, serverName: tls.serverName, protocol: 'h2' },
      pair: tls.pair,
      ca: tls.anchors.pem,
    });
  const dial = createDialer(endpoint.address, client, timeoutMs).connect(target.hello);
  const connection = grpcOn(await dial.done, target);
  try {
    const authorization = token === undefined ? undefined : gitalyAuthorization(token, nowMs());
    const { code, message, response } = await callServerInfo(connection, timeoutMs, authorization);
    const words = `${code}${message === '' ? '' : `: ${message}`}`;
    if (response) {
      const info = readServerInfo(response);
      if (info) return infoFinding(info, token !== undefined);
      return failed('the answer is no ServerInfoResponse', 'what answers is no Gitaly');
    }
    if (code === 'Unimplemented') return failed(words, noGitaly(words));
    const isRefused = code === 'PermissionDenied' || code === 'Unauthenticated';
    if (!isRefused) return failed(words, 'the log of Gitaly says more');
    if (token === undefined) return skipped(`Gitaly wants a token (${words}): give it with --token-file`);
    return refusedToken(
      words,
      await findClockDifference(connection, token, secrecyOf(endpoint.address), settings),
    );
  } finally {
    connection.close();
  }
}

const isLoopback = networkCheck(['127.0.0.0/8', '::1/128']);

/** The certificate of a TLS server has been verified when a token is sent. */
function secrecyOf(address: Address): Secrecy {
  return address.scheme === 'unix' || isTlsScheme(address.scheme) || isLoopback(address.host)
    ? 'private'
    : 'open';
}

function refusedToken(words: string, differenceMs: number | undefined): Finding {
  if (differenceMs === undefined)
    return failed(
      `the token is refused at whatever time it says (${words})`,
      "it is not the one that Gitaly has: compare with gitaly['configuration'][:auth][:token] there, or praefect's",
      { facts: { token: 'wrong' } },
    );
  const seconds = Math.round(Math.abs(differenceMs) / 1000);
  return failed(
    `the token is right, and refused for its time: the clock there is about ${seconds} s ${differenceMs > 0 ? 'ahead of' : 'behind'} this one (${words})`,
    'set both clocks by NTP (chrony, systemd-timesyncd): Gitaly takes tokens of its own time alone, 30 s more or less',
    { facts: { token: 'right', clock_difference_seconds: Math.round(differenceMs / 1000) } },
  );
}

function infoFinding({ serverVersion, gitVersion, storages }: ServerInfo, hadToken: boolean): Finding {
  const facts = { facts: { server_version: serverVersion, git_version: gitVersion, storages } };
  const told = storages.map(
    ({ name, readable, writeable }) =>
      `${name} (${readable ? 'readable' : 'NOT READABLE'}, ${writeable ? 'writeable' : 'NOT WRITEABLE'})`,
  );
  // One that was built by hand may not know its version.
  const version = serverVersion === '' ? 'that tells no version' : serverVersion;
  const detail = `Gitaly ${version}, git ${gitVersion}, storages: ${told.join(', ') || 'none'}`;
  if (!storages.every(({ readable, writeable }) => readable && writeable))
    return failed(
      detail,
      'look at the path of the storage there, its owner (git), its disk and mount',
      facts,
    );
  return hadToken ? passed(detail, facts) : passed(`${detail}; no token is needed`, facts);
}

function grpcOn(stream: Duplex, { address, tls }: CheckTarget): GrpcConnection {
  const authority = address.scheme === 'unix' ? 'localhost' : formatHostPort(address);
  return new GrpcConnection(stream, authority, tls ? 'https' : 'http');
}
