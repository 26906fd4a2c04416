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

/** What a server presents, or why it presents nothing. */
export type Fetched =
  | {
      readonly ok: true;
      readonly certificates: readonly Certificate[];
      /** `undefined` where the handshake broke off behind the certificates, as of a server that misses the client's. */
      readonly tls: ServedTls | undefined;
    }
  | { readonly ok: false; readonly finding: CertificateFinding };

/**
 * Does a TLS handshake with a server, as a client of Gitaly would, and looks at what it sends; nothing is verified, and
 * nothing but the handshake is sent.
 */
export async function fetchChain(address: NetworkAddress): Promise<Fetched> {
  try {
    const raw = await createDialer(address, undefined, FETCH_CHAIN_MS).connect();
    const { failure, certificates, version, cipher, protocol } = await observeHandshake(raw, {
      // Authorities would be of no use, and those of the system take long to read.
      context: createSecureContext({ ca: [] }),
      serverName: address.host,
      protocols: ['h2', 'http/1.1'],
      firstWords: undefined,
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
      "give the port of its TLS listener: Gitaly's plaintext listen_addr is another one than tls_listen_addr",
    );
  }
  if (fault !== undefined || reason instanceof HandshakeSilence) {
    return error(
      'no_tls',
      `the TLS handshake failed (${code === '' ? reason.message : code})`,
      'look into the log of the server; it may want another TLS version, cipher suite or a client certificate',
    );
  }
  return error(
    'unreachable',
    upstreamFailure(reason).message,
    'is the server up, the address right, and no firewall between?',
  );
}
