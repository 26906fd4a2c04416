import { judgeClient, type ClientCertificateResult } from '../../tls/client-certificate.js';
import { ConnectionEnd } from '../connection-end.js';
import type { ConnectionContext } from '../connection-context.js';
import type { OpenClient } from './terminate-tls.js';

/** Identifies the client by its certificate. Returns the end of the connection if the client is refused. */
export function identifyClient(context: ConnectionContext, { tls }: OpenClient): ConnectionEnd | undefined {
  const { facts, settings } = context;
  const { clientAuth = 'none' } = settings.configuration.tls ?? {};
  if (!tls || clientAuth === 'none') return undefined;
  const verdict = judgeClient(tls, clientAuth);
  settings.events.clientCertificate(verdict.result);
  if (!verdict.allowed) {
    facts.advice = clientCertificateFix(verdict.result);
    return new ConnectionEnd('client_certificate_refused', 'proxy', verdict.detail);
  }
  if (verdict.result === 'verified') {
    facts.identity = verdict.identity;
    context.authenticated('certificate');
  }
  return undefined;
}

/** The fix for a refused client certificate. It is part of the log and of the responses to the client's calls. */
function clientCertificateFix(result: ClientCertificateResult): string {
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
