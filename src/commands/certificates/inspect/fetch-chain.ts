import { isIP } from 'node:net';
import { createSecureContext } from 'node:tls';

import { codeOf, tlsFaultOf } from '../../../error-codes.js';
import { FETCH_CHAIN_MS } from '../../../limits.js';
import type { NetworkAddress } from '../../../config/model.js';
import { HandshakeSilence, observeHandshake } from '../../../gitaly-client/observe-handshake.js';
import type { Certificate } from '../../../x509/certificate.js';
import { error, type CertificateFinding } from '../../../x509/judge/certificate-finding.js';
import { createDialer } from '../../../upstream/dialer.js';
import { UpstreamFailure, upstreamFailure } from '../../../upstream/failure.js';
import type { ServedTls } from './inspection-report.js';

/** The certificates that a server presents, or the reason for their absence. */
export type Fetched =
  | {
      readonly ok: true;
      readonly certificates: readonly Certificate[];
      /** `undefined` if the handshake failed after the certificates, for example because a client certificate is missing. */
      readonly tls: ServedTls | undefined;
    }
  | { readonly ok: false; readonly finding: CertificateFinding };

/**
 * Makes a TLS handshake as a client of Gitaly would, and returns the certificates that the server presents. Verifies
 * nothing, and sends nothing but the handshake.
 */
export async function fetchChain(address: NetworkAddress): Promise<Fetched> {
  try {
    const raw = await createDialer(address, undefined, FETCH_CHAIN_MS).connect();
    const { failure, certificates, version, cipher, protocol } = await observeHandshake(raw, {
      // Nothing is verified, and the authorities of the system take long to read.
      context: createSecureContext({ ca: [] }),
      serverName: address.host,
      protocols: ['h2', 'http/1.1'],
      firstBytes: undefined,
      timeoutMs: FETCH_CHAIN_MS,
    });
    if (failure && certificates.length === 0) return { ok: false, finding: whyNot(failure) };
    const serverName = isIP(address.host) === 0 ? address.host : undefined;
    const tls =
      version !== undefined && cipher !== undefined
        ? { version, cipher, alpn: protocol, serverName }
        : undefined;
    return { ok: true, certificates, tls };
  } catch (reason) {
    if (!(reason instanceof UpstreamFailure)) throw reason;
    return { ok: false, finding: whyNot(reason) };
  }
}

function whyNot(reason: Error): CertificateFinding {
  const code = codeOf(reason);
  const fault = tlsFaultOf(code);
  if (fault === 'not_a_record' || fault === 'invalid_record') {
    return error(
      'no_tls',
      `the server does not speak TLS on this port (${code})`,
      'give the port of its TLS listener: for Gitaly, that of tls_listen_addr, not that of listen_addr',
    );
  }
  if (fault !== undefined || reason instanceof HandshakeSilence) {
    return error(
      'no_tls',
      `the TLS handshake failed (${code === '' ? reason.message : code})`,
      'see the log of the server; it may require another TLS version or cipher suite, or a client certificate',
    );
  }
  return error(
    'unreachable',
    upstreamFailure(reason).message,
    'check that the server runs, that the address is right, and that no firewall is in between',
  );
}
