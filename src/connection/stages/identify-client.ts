import { judgeClient } from '../../tls/client-certificate.js';
import { clientCertificateFix } from '../../tls/client-certificate-fix.js';
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
