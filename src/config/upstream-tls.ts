import { fileSetting, reportError, type BuildContext, type Written } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type { ApplicationProtocol, CertificatePair, KeyPath, UpstreamTls } from './model.js';
import type { DraftListener } from './schema.js';
import { TLS_VERSIONS } from './server-tls.js';
import { resolveTrust } from './trust-settings.js';

type DraftUpstreamTls = NonNullable<DraftListener['upstream_tls']>;

/**
 * Builds the TLS settings for the `tls://` or `https://` upstreams of a listener.
 *
 * @param protocol - the protocol inside TLS.
 */
export function buildUpstreamTls(
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
