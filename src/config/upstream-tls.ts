import { fileSetting, reportError, type BuildContext, type Written } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type { CertificatePair, KeyPath, NetworkAddress, UpstreamTls } from './model.js';
import type { DraftListener } from './schema.js';
import { TLS_VERSIONS } from './server-tls.js';
import { resolveTrust } from './trust.js';

type DraftUpstreamTls = NonNullable<DraftListener['upstream_tls']>;

/**
 * How a `tls://` or `https://` upstream is verified and what is presented to it.
 *
 * @param forward - the upstream, whose host's name the certificate must hold unless `server_name` says another.
 */
export function buildUpstreamTls(
  context: BuildContext,
  settings: DraftUpstreamTls,
  key: KeyPath,
  { scheme, host }: Pick<NetworkAddress, 'scheme' | 'host'>,
): UpstreamTls {
  const ca = written(settings.ca_path, [...key, 'ca_path']);
  return {
    ca: ca === undefined && context.isBroken([...key, 'ca_path']) ? undefined : resolveTrust(context, ca),
    certificate: clientCertificate(context, settings, key),
    // The root dot of a fully qualified name is for the resolver; certificates and SNI have none.
    serverName: settings.server_name ?? host.replace(/\.$/u, ''),
    minVersion: TLS_VERSIONS[settings.min_version ?? DEFAULTS.minVersion],
    protocol: scheme === 'https' ? 'http/1.1' : 'h2',
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
