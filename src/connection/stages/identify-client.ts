import type { TLSSocket } from 'node:tls';

import type { ClientAuth } from '../../config/model.js';
import { normalServerName } from '../../config/server-name.js';
import { judgeClient, type ClientFault, type ClientVerdict } from '../../tls/client-certificate.js';
import { certificateIdentity, describeIdentities, identitiesOf } from '../../x509/certificate-names.js';
import { peerCertificate } from '../../x509/certificate.js';
import { ConnectionEnd } from '../connection-end.js';
import type { ConnectionContext } from '../connection-context.js';
import { formatEnd } from '../peer-address.js';
import type { OpenClient } from './terminate-tls.js';

/** Identifies the client by its certificate. Returns the end of the connection if the client is refused. */
export function identifyClient(context: ConnectionContext, { tls }: OpenClient): ConnectionEnd | undefined {
  const { facts, settings } = context;
  const { clientAuth = 'none' } = settings.configuration.tls ?? {};
  const certificate = tls && clientAuth !== 'none' ? verifyClient(context, tls, clientAuth) : 'not_requested';
  if (certificate instanceof ConnectionEnd) return certificate;
  const own = tls && certificate !== 'not_requested' ? peerCertificate(tls) : undefined;
  const { serverName } = facts;
  facts.observed = settings.events.clientAdmitted({
    identities: facts.identities,
    tls_version: facts.tls?.version ?? null,
    server_name: settings.routes.only || serverName === undefined ? null : normalServerName(serverName),
    certificate,
    authorities: (tls && own && settings.terminator?.authoritiesOf(tls, own)) ?? [],
  });
  return undefined;
}

/** Returns the state of the certificate, or the end of the connection if the client is refused. */
function verifyClient(
  context: ConnectionContext,
  tls: TLSSocket,
  clientAuth: Exclude<ClientAuth, 'none'>,
): 'verified' | ClientFault | ConnectionEnd {
  const { facts, settings } = context;
  const { events, allowsClient } = settings;
  let verdict = judgeClient(tls, clientAuth);
  if (verdict.kind === 'verified') {
    facts.hasVerifiedCertificate = true;
    facts.identity = certificateIdentity(verdict.certificate);
    facts.identities = identitiesOf(verdict.certificate);
  }
  if (verdict.kind !== 'refused' && !allowsClient(facts.identities))
    verdict = notAllowed(verdict, facts.identities);
  if (verdict.kind === 'refused') {
    const { fault, detail } = verdict;
    const fix = clientCertificateFix(fault);
    if (clientAuth !== 'report') {
      events.clientCertificate(fault);
      facts.advice = fix;
      const reason = fault === 'not_allowed' ? 'client_not_allowed' : 'client_certificate_refused';
      return new ConnectionEnd(reason, 'proxy', detail);
    }
    events.clientCertificate(`would_refuse_${fault}`);
    events.clientReported({ fault, detail, fix, peerAddress: formatEnd(facts.clientEnd) });
  } else {
    events.clientCertificate(verdict.kind);
  }
  if (facts.hasVerifiedCertificate) context.authenticated('certificate');
  // What `client_allow` decides depends on the identities only.
  if (verdict.kind === 'refused' && verdict.fault === 'not_allowed')
    return facts.hasVerifiedCertificate ? 'verified' : 'absent';
  return verdict.kind === 'refused' ? verdict.fault : verdict.kind;
}

function notAllowed(
  verdict: Exclude<ClientVerdict, { kind: 'refused' }>,
  identities: readonly string[],
): ClientVerdict {
  const detail =
    verdict.kind === 'absent'
      ? 'the client sent no certificate, and client_allow names no client without an identity'
      : `client_allow names none of the identities of the client: ${describeIdentities(identities)}`;
  return { kind: 'refused', fault: 'not_allowed', detail };
}

/** The fix for a refused client. It is part of the log and of the responses to the client's calls. */
function clientCertificateFix(fault: ClientFault): string {
  switch (fault) {
    case 'absent':
      return 'configure the client with a certificate, and its key, that a CA of client_ca_path has issued';
    case 'not_allowed':
      return 'add an identity of the client to client_allow, or connect with a certificate that client_allow names';
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
