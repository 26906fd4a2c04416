import { fileSetting, reportError, reportWarning, type BuildContext, type Written } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type {
  ApplicationProtocol,
  CertificatePair,
  ClientAuth,
  KeyPath,
  ServerTls,
  TlsVersion,
  TrustSource,
} from './model.js';
import type { DraftTls } from './schema.js';
import { resolveTrust } from './trust-settings.js';

/** The `tls` maps that apply to a listener, its own before the top-level one. */
export type TlsLayers = readonly Written<DraftTls>[];

export const TLS_VERSIONS: Readonly<Record<'TLS 1.2' | 'TLS 1.3', TlsVersion>> = {
  'TLS 1.2': 'TLSv1.2',
  'TLS 1.3': 'TLSv1.3',
};

/** The value of a key from the first layer that has it. */
export function pick<Name extends keyof DraftTls>(
  layers: TlsLayers,
  name: Name,
): Written<NonNullable<DraftTls[Name]>> | undefined {
  for (const layer of layers) {
    const value = layer.value[name];
    if (value !== undefined) return { value, key: [...layer.key, name] };
  }
  return undefined;
}

/** The protocols inside the TLS of a `tls://` and an `https://` listener. */
const PROTOCOLS: Readonly<Record<'tls' | 'https', readonly ApplicationProtocol[]>> = {
  tls: ['h2'],
  https: ['h2', 'http/1.1'],
};

/**
 * Builds the TLS settings of a `tls://` or `https://` listener from the layers that apply to it. Problems are reported.
 * Missing certificates are omitted, so that the others can still be validated.
 *
 * @param listenKey - the key of the listener's address, under which missing settings are reported.
 */
export function buildServerTls(
  context: BuildContext,
  layers: TlsLayers,
  listenKey: KeyPath,
  scheme: 'tls' | 'https',
): ServerTls {
  const { clientAuth, clientCa } = buildClientAuth(context, layers, listenKey);
  const crl = pick(layers, 'client_crl_path');
  return {
    certificates: [
      ...defaultCertificate(context, layers, listenKey, scheme),
      ...furtherCertificates(context, layers),
    ],
    minVersion: TLS_VERSIONS[pick(layers, 'min_version')?.value ?? DEFAULTS.minVersion],
    clientAuth,
    clientCa,
    clientCrl: crl === undefined || clientAuth === 'none' ? undefined : fileSetting(context, crl),
    // HTTP/1.1 does not need ALPN, and Gitaly, a client of https:// listeners, does not offer it.
    requireAlpn: scheme === 'tls' && (pick(layers, 'require_alpn')?.value ?? DEFAULTS.requireAlpn),
    protocols: PROTOCOLS[scheme],
  };
}

function defaultCertificate(
  context: BuildContext,
  layers: TlsLayers,
  listenKey: KeyPath,
  scheme: 'tls' | 'https',
): CertificatePair[] {
  const certificate = pick(layers, 'certificate_path');
  const key = pick(layers, 'key_path');
  if (certificate !== undefined && key !== undefined) {
    return [{ certificate: fileSetting(context, certificate), key: fileSetting(context, key) }];
  }
  const isBroken = (name: 'certificate_path' | 'key_path'): boolean =>
    layers.some((layer) => context.isBroken([...layer.key, name]));
  if (isBroken('certificate_path') || isBroken('key_path')) return [];
  if (certificate === undefined && key === undefined) {
    const message = `a ${scheme}:// listener needs a certificate and its key: set \`certificate_path\` and \`key_path\``;
    reportError(context, listenKey, message);
  } else if (certificate !== undefined) {
    reportError(
      context,
      beside(certificate.key, 'key_path'),
      'missing: `certificate_path` needs its key in `key_path`',
    );
  } else if (key !== undefined) {
    reportError(
      context,
      beside(key.key, 'certificate_path'),
      'missing: `key_path` needs its certificate in `certificate_path`',
    );
  }
  return [];
}

function furtherCertificates(context: BuildContext, layers: TlsLayers): CertificatePair[] {
  const further = pick(layers, 'certificates');
  return (further?.value ?? []).flatMap((pair, index): CertificatePair[] => {
    if (further === undefined || pair?.certificate_path === undefined || pair.key_path === undefined)
      return [];
    const at = [...further.key, index];
    const certificate = fileSetting(context, {
      value: pair.certificate_path,
      key: [...at, 'certificate_path'],
    });
    return [{ certificate, key: fileSetting(context, { value: pair.key_path, key: [...at, 'key_path'] }) }];
  });
}

function buildClientAuth(
  context: BuildContext,
  layers: TlsLayers,
  listenKey: KeyPath,
): { clientAuth: ClientAuth; clientCa: TrustSource | undefined } {
  const auth = pick(layers, 'client_auth');
  const ca = pick(layers, 'client_ca_path');
  const clientAuth = auth?.value ?? DEFAULTS.clientAuth;
  const authBroken = layers.some((layer) => context.isBroken([...layer.key, 'client_auth']));
  if (clientAuth === 'none') {
    if (!authBroken) reportUnused(context, layers, auth);
    return { clientAuth, clientCa: undefined };
  }
  if (ca === undefined && layers.some((layer) => context.isBroken([...layer.key, 'client_ca_path']))) {
    return { clientAuth, clientCa: undefined };
  }
  if (ca === undefined) {
    // SSL_CERT_FILE and SSL_CERT_DIR name the CAs that this machine trusts for servers: any public CA could issue for a client.
    reportError(
      context,
      auth?.key ?? listenKey,
      'needs `client_ca_path`: the CAs that issue certificates for your clients (SSL_CERT_FILE, SSL_CERT_DIR and the public CAs are never used to verify clients)',
      clientAuth,
    );
    return { clientAuth, clientCa: undefined };
  }
  return { clientAuth, clientCa: resolveTrust(context, ca) };
}

/**
 * Reports CAs or CRLs that are configured but not used, because the operator probably expects clients to be verified. If
 * `client_auth` is explicitly `none`, this is a warning; if it is absent, an error, because admitting all clients would be a guess.
 */
function reportUnused(context: BuildContext, layers: TlsLayers, auth: Written<ClientAuth> | undefined): void {
  for (const name of ['client_ca_path', 'client_crl_path'] as const) {
    const unused = pick(layers, name);
    if (unused === undefined) continue;
    if (auth === undefined) {
      const message = `clients would not be verified: \`${name}\` needs \`client_auth\`: set it to require or optional (or none)`;
      reportError(context, unused.key, message, unused.value);
    } else if (unused.key.length >= auth.key.length) {
      // A listener that overrides a verifying default with `none` is intended. Its key is longer than that of the default.
      const message = `\`${name}\` has no effect with \`client_auth: none\`: set that to require or optional`;
      reportWarning(context, unused.key, message, unused.value);
    }
  }
}

function beside(key: KeyPath, name: string): KeyPath {
  return [...key.slice(0, -1), name];
}
