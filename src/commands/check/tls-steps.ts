import type { Socket } from 'node:net';
import { isIP } from 'node:net';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';

import { codeOf, codeOrMessage, tlsFaultOf } from '../../error-codes.js';
import { CLIENT_PREFACE } from '../../inspect/http2/http2-frame.js';
import { settingsFrame } from '../../inspect/http2/encode.js';
import {
  HandshakeBroken,
  HandshakeSilence,
  observeHandshake,
  type HandshakeObservation,
} from '../../gitaly-client/observe-handshake.js';
import { certificateNames, describeNames } from '../../x509/certificate-names.js';
import { ALPN_H2, contextParameters } from '../../tls/parameters.js';
import { startTls } from '../../tls/start-tls.js';
import { failed, passed, skipped, type CheckFinding } from './check-step.js';
import type { CheckSettings, CheckTarget, TargetTls } from './named-target.js';

/** What a client of HTTP/2 begins with: a server that accepts it answers with its SETTINGS. */
const FIRST_WORDS = Buffer.concat([CLIENT_PREFACE, settingsFrame('settings')]);

/** How to present a client certificate, and the setting for it. */
const PRESENTED: Readonly<
  Record<TargetTls['pairFrom'], { readonly setting: string; readonly give: string }>
> = {
  flags: {
    setting: '--client-cert',
    give: 'give one with --client-cert and --client-key, of an authority that the server trusts for clients',
  },
  upstream_tls: {
    setting: 'upstream_tls.certificate_path',
    give: 'set certificate_path and key_path in upstream_tls, of an authority that the server trusts for clients',
  },
};

/** Describes the TLS server at a plaintext address; `undefined` if the server does not speak TLS. */
export async function findTls(
  raw: Socket,
  serverName: string,
  { timeoutMs }: CheckSettings,
): Promise<string | undefined> {
  const { failure, version, certificates } = await observeHandshake(raw, {
    context: createSecureContext(contextParameters('TLSv1.2', 'client')),
    serverName,
    protocols: [ALPN_H2],
    firstWords: undefined,
    timeoutMs,
  });
  // A server that sends an alert speaks TLS, too.
  const isRefused = tlsFaultOf(codeOf(failure))?.startsWith('refused_') === true;
  const isTls = !failure || version !== undefined || isRefused;
  if (!isTls) return undefined;
  const [leaf] = certificates;
  const names = leaf && describeNames(certificateNames(leaf));
  return [version ?? 'TLS', names && `certificate for ${names}`].filter((words) => words).join(', ');
}

/** What a target's handshakes are made with. */
export function contextOf({ anchors, pair, minVersion }: TargetTls): SecureContext {
  return createSecureContext({
    ...contextParameters(minVersion, 'client'),
    ca: [...anchors.pem],
    allowPartialTrustChain: true,
    ...(pair && { cert: pair.certificatePem, key: pair.keyPem }),
  });
}

/** What is offered by ALPN. */
function protocolsOf({ speaks }: CheckTarget): string[] {
  return speaks === 'grpc' ? [ALPN_H2] : ['http/1.1'];
}

/** Looks at a server's side of a handshake. */
export function observe(
  raw: Socket,
  target: CheckTarget,
  tls: TargetTls,
  { timeoutMs }: CheckSettings,
): Promise<HandshakeObservation> {
  return observeHandshake(raw, {
    context: contextOf(tls),
    serverName: tls.serverName,
    protocols: protocolsOf(target),
    firstWords: target.speaks === 'grpc' ? FIRST_WORDS : undefined,
    timeoutMs,
  });
}

/** Shakes hands and judges nothing: that has been done by then. Rejects with the TLS library's error. */
export function connectTls(
  raw: Socket,
  target: CheckTarget,
  tls: TargetTls,
  timeoutMs: number,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = startTls(raw, {
      context: contextOf(tls),
      serverName: tls.serverName,
      protocols: protocolsOf(target),
    });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no TLS handshake within ${timeoutMs} ms`)),
      timeoutMs,
    );
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.on('error', (error: Error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('close', () => reject(new Error('the connection was closed within the TLS handshake')));
  });
}

/** Whether the handshake came to its end, and on what it settled. */
export function checkTls(seen: HandshakeObservation, tls: TargetTls): CheckFinding {
  const { failure, version, cipher } = seen;
  if (!failure)
    return passed(`${version ?? 'unknown'}, ${cipher ?? 'unknown'}`, { facts: { version, cipher } });
  const code = codeOrMessage(failure);
  const fault = tlsFaultOf(code);
  if (failure instanceof HandshakeSilence)
    return failed(failure.message, 'something accepts there and does not speak TLS: is it the right port?');
  if (failure instanceof HandshakeBroken && version === undefined)
    return failed(
      failure.message,
      'it does not speak TLS here, or something between ends it: Gitaly without TLS has tcp:// addresses, 8075 is its usual port',
    );
  if (fault === 'not_a_record' || fault === 'invalid_record')
    return failed(
      `what answers does not speak TLS (${code})`,
      'write tcp:// if this is a listen_addr of Gitaly; 9999 is the usual port of TLS, 8075 the other',
    );
  if (fault === 'refused_version' || fault === 'unsupported_version')
    return failed(
      `no common version of TLS (${code})`,
      'the server must speak TLS 1.2 or 1.3, as clients of Gitaly do',
    );
  if (fault === 'refused_name')
    return isIP(tls.serverName) === 0
      ? failed(
          `the server has no certificate or upstream for the name ${tls.serverName} (${code})`,
          'use a name that it serves: in ADDRESS, or with --server-name; a proxy lists its names in forward_by_server_name',
        )
      : failed(
          `the server requires a name, and a client that dials an IP address asks for none (${code})`,
          'use a name that it serves: in ADDRESS, or with --server-name; a proxy serves other clients by the `default` of forward_by_server_name',
        );
  if (fault === 'refused_alpn')
    return failed(
      `the server knows no ALPN h2 (${code})`,
      'it is no gRPC server: what stands in front of Gitaly must pass TCP, or offer h2',
    );
  if (seen.asksForCertificate === true && refusesClient(failure, code))
    return tls.pair
      ? failed(
          `the client certificate of ${PRESENTED[tls.pairFrom].setting} is refused (${code})`,
          'it must be in date, made for clients and of an authority that the server trusts for clients; see its log',
        )
      : failed(`a client certificate is required (${code})`, PRESENTED[tls.pairFrom].give);
  if (fault === 'refused_handshake' || fault === 'no_common_cipher')
    return failed(
      `no common cipher suite (${code})`,
      'the server must have ECDHE suites with AES-GCM or ChaCha20',
    );
  return failed(`the TLS handshake failed (${code})`, 'the log of the server may say more');
}

/** TLS 1.2 has no alert of its own for a certificate that is missing, and some servers send none at all. */
function refusesClient(failure: Error, code: string): boolean {
  const fault = tlsFaultOf(code);
  return (
    fault === 'refused_certificate' ||
    fault === 'refused_handshake' ||
    code === 'ECONNRESET' ||
    code === 'EPIPE' ||
    failure instanceof HandshakeBroken
  );
}

/** Whether the server selected `h2` by ALPN, without which current gRPC clients leave. */
export function checkAlpn({ protocol }: HandshakeObservation, { speaks }: CheckTarget): CheckFinding {
  const facts = { facts: { protocol: protocol ?? null } };
  if (speaks === 'http') return passed(protocol ?? 'none selected, which HTTP/1.1 does not need', facts);
  if (protocol === ALPN_H2) return passed(ALPN_H2, facts);
  return failed(
    'credentials: cannot check peer: missing selected ALPN property',
    'something in front of Gitaly ends TLS without ALPN: let the load balancer pass TCP, or have it offer h2',
    facts,
  );
}

/** Whether a client certificate is asked for, and what is made of ours. */
export function checkClientCertificate(seen: HandshakeObservation, tls: TargetTls): CheckFinding {
  const { asksForCertificate, sequel, failure } = seen;
  const facts = { facts: { asked_for: asksForCertificate ?? null, given: tls.pair !== undefined } };
  const { setting } = PRESENTED[tls.pairFrom];
  if (asksForCertificate === undefined)
    return skipped('the handshake broke off before the server could ask for one');
  if (!asksForCertificate)
    return passed(tls.pair ? `not asked for: that of ${setting} was not sent` : 'not asked for', facts);
  const code = codeOf(sequel.kind === 'left' ? sequel.error : failure);
  if (failure || sequel.kind === 'left') return refusedCertificate(tls, code === '' ? '' : ` (${code})`);
  switch (sequel.kind) {
    case 'answered':
      return passed(
        tls.pair ? `asked for, and that of ${setting} is accepted` : 'asked for, and not required',
        facts,
      );
    case 'silent':
      return passed('asked for; the server says nothing behind the handshake, the next steps say why', facts);
    case 'not_awaited':
      return passed('asked for; whether it is required shows in a request alone', facts);
  }
}

/** The server requested a client certificate and refused ours, or requires one. `words` is the server's message. */
export function refusedCertificate(tls: TargetTls, words: string): CheckFinding {
  const facts = { facts: { asked_for: true, given: tls.pair !== undefined } };
  const { setting, give } = PRESENTED[tls.pairFrom];
  return tls.pair
    ? failed(
        `asked for, and that of ${setting} is refused${words}`,
        'it must be in date, made for clients (extended key usage clientAuth) and of an authority that the server trusts for clients; its log says more',
        facts,
      )
    : failed(`required, and none was given${words}`, give, facts);
}
