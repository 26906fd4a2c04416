import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';

/**
 * The certificates that a server has sent, in its order, on the client's side of a finished handshake. May be asked for
 * once: Node takes the first one out of the list that it answers from.
 *
 * `getPeerCertificate(true)` shows another chain: the one that can be built, without what is out of place, and with what
 * the trust store adds. What `issuerCertificate` calls the issuer here is what was sent next (GetPeerCert and
 * GetIssuerCert in Node's crypto_x509.cc), whoever that is.
 */
export function sentChain(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  // Node's types promise a certificate, and a server need not send one.
  let next: X509Certificate | undefined = socket.getPeerX509Certificate();
  while (next !== undefined) {
    chain.push(next);
    next = next.issuerCertificate;
  }
  return chain;
}
