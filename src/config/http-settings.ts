import { isHttpScheme } from './address.js';
import { reportError, type BuildContext } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type { Address, HttpSettings, KeyPath, ServerTls } from './model.js';
import type { DraftListener } from './schema.js';

/**
 * What is particular to a pair that speaks HTTP, `undefined` for all others. Reported is what such a pair cannot have, and
 * what only such a pair has.
 *
 * @param tls - what the listener does, where it does TLS.
 */
export function buildHttpSettings(
  context: BuildContext,
  listener: DraftListener,
  key: KeyPath,
  tls: ServerTls | undefined,
): HttpSettings | undefined {
  const { listen, forward, forward_by_server_name: byName } = listener;
  if (byName !== undefined) {
    // It is for tls:// listeners, which pass bytes.
    reportHttpOnly(context, listener, key);
    return undefined;
  }
  // What the other end is to be, nobody knows.
  if (listen === undefined || forward === undefined) return undefined;
  if (!isHttpScheme(listen.scheme) && !isHttpScheme(forward.scheme)) {
    reportHttpOnly(context, listener, key);
    return undefined;
  }
  if (!carriesHttp(listen) || !carriesHttp(forward)) {
    const message = `HTTP does not pass from ${listen.url} to ${forward.url}: both are https://, http:// or unix:, or neither is`;
    reportError(context, [...key, 'forward'], message, forward.url);
  }
  reportRelayOnly(context, listener, key);
  const clientCertificateHeaders =
    listener.client_certificate_headers ?? DEFAULTS.http.clientCertificateHeaders;
  if (clientCertificateHeaders && (tls === undefined || tls.clientAuth === 'none')) {
    const message =
      'needs clients that are asked for a certificate: listen on https:// and set `client_auth` to require or optional';
    reportError(context, [...key, 'client_certificate_headers'], message, true);
  }
  const gatePaths = listen.scheme === 'https' ? DEFAULTS.http.gatePaths : undefined;
  return {
    // What could not be read must not let more through.
    paths: listener.paths?.flatMap((path) => path ?? []) ?? gatePaths,
    clientCertificateHeaders,
  };
}

function carriesHttp({ scheme }: Address): boolean {
  return isHttpScheme(scheme) || scheme === 'unix';
}

function reportHttpOnly(context: BuildContext, listener: DraftListener, key: KeyPath): void {
  for (const name of ['paths', 'client_certificate_headers'] as const) {
    if (listener[name] === undefined) continue;
    const message = `\`${name}\` is for pairs with https:// or http://, and this one passes bytes: remove it`;
    reportError(context, [...key, name], message);
  }
}

function reportRelayOnly(context: BuildContext, listener: DraftListener, key: KeyPath): void {
  if (listener.inspect !== undefined) {
    const message = '`inspect` follows the calls of gRPC, and HTTP passes here: remove it';
    reportError(context, [...key, 'inspect'], message);
  }
  if (listener.proxy_protocol?.send !== undefined) {
    const message =
      'requests of several clients share a connection to upstream, which is told of each by X-Forwarded-For: remove it';
    reportError(context, [...key, 'proxy_protocol', 'send'], message);
  }
  if (listener.tls?.require_alpn === true) {
    const message = 'HTTP/1.1 needs no ALPN, and Gitaly as a client offers none: remove it';
    reportError(context, [...key, 'tls', 'require_alpn'], message);
  }
}
