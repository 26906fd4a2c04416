import type { ClientCertificateResult } from './client-certificate.js';

/** The fix for a refused client certificate. It is part of the log and of the responses to the client's calls. */
export function clientCertificateFix(result: ClientCertificateResult): string {
  switch (result) {
    case 'absent':
      return 'configure the client with a certificate, and its key, that a CA of client_ca_path has issued';
    case 'unknown_authority':
      return 'have the certificate issued by a CA of client_ca_path, and have the client send its intermediates with it';
    case 'expired':
      return 'renew the certificate, and have the client load the new one';
    case 'not_yet_valid':
      return 'compare the clocks of the client, of its CA and of this machine';
    case 'crl':
      return 'renew the revocation list of its CA in client_crl_path';
    case 'invalid_authority':
      return 'have the certificate issued by a CA that may issue it: with CA:TRUE, keyCertSign and a sufficient pathlen';
    case 'name_constraints':
      return 'have a certificate issued whose names the name constraints of its CAs permit';
    case 'critical_extension':
      return 'have the certificate issued without the critical extension that OpenSSL does not know';
    case 'weak_signature':
      return 'have the certificate and its intermediates signed with SHA-256';
    case 'weak_key':
      return 'use keys with ECDSA on P-256, or RSA of 2048 bits or more';
    default:
      return 'have a certificate for client use (extended key usage clientAuth) issued by a CA of client_ca_path';
  }
}
