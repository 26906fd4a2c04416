import { isHttpScheme } from './address.js';
import { reportError, type BuildContext } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type { Address, HttpSettings, KeyPath, ServerTls } from './model.js';
import type { DraftListener } from './schema.js';

/**
 * Builds the settings of a listener that forwards HTTP; `undefined` for all others. Reports settings that are invalid with
 * HTTP, and settings that are only valid with HTTP.
 *
 * @param tls - the TLS settings of the listener, if it uses TLS.
 */
export function buildHttpSettings(
  context: BuildContext,
  listener: DraftListener,
  key: KeyPath,
  tls: ServerTls | undefined,
): HttpSettings | undefined {
  const { listen, forward, forward_by_server_name: byName } = listener;
  if (byName !== undefined) {
    // `forward_by_server_name` is for tls:// listeners, which do not use HTTP.
    reportHttpOnly(context, listener, key);
    return undefined;
  }
  // With one of the addresses invalid, the protocol is unknown.
  if (listen === undefined || forward === undefined) return undefined;
  if (!isHttpScheme(listen.scheme) && !isHttpScheme(forward.scheme)) {
    reportHttpOnly(context, listener, key);
    return undefined;
  }
  if (!carriesHttp(listen) || !carriesHttp(forward)) {
    const message = `cannot forward from ${listen.url} to ${forward.url}: for HTTP, both must be https://, http:// or unix:`;
    reportError(context, [...key, 'forward'], message, forward.url);
  }
  reportRelayOnly(context, listener, key);
  const clientCertificateHeaders =
    listener.client_certificate_headers ?? DEFAULTS.http.clientCertificateHeaders;
  if (clientCertificateHeaders && (tls === undefined || tls.clientAuth === 'none')) {
    const message =
      'needs client certificates: listen on https:// and set `client_auth` to require or optional';
    reportError(context, [...key, 'client_certificate_headers'], message, true);
  }
  const gatePaths = listen.scheme === 'https' ? DEFAULTS.http.gatePaths : undefined;
  return {
    // Invalid entries are omitted, so that they never allow more paths.
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
    const message = `\`${name}\` is for listeners that forward HTTP (https:// or http://), but this one does not: remove it`;
    reportError(context, [...key, name], message);
  }
}

function reportRelayOnly(context: BuildContext, listener: DraftListener, key: KeyPath): void {
  if (listener.inspect !== undefined) {
    const message = '`inspect` follows gRPC calls, but this listener forwards HTTP: remove it';
    reportError(context, [...key, 'inspect'], message);
  }
  if (listener.proxy_protocol?.send !== undefined) {
    const message =
      'requests of several clients share a connection to the upstream, which receives their addresses in X-Forwarded-For: remove it';
    reportError(context, [...key, 'proxy_protocol', 'send'], message);
  }
  if (listener.tls?.require_alpn === true) {
    const message = 'HTTP/1.1 does not need ALPN, and Gitaly as a client does not offer it: remove it';
    reportError(context, [...key, 'tls', 'require_alpn'], message);
  }
}
