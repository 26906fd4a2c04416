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

/** The first bytes of an HTTP/2 client. A server that accepts it answers with SETTINGS. */
const FIRST_BYTES = Buffer.concat([CLIENT_PREFACE, settingsFrame('settings')]);

/** The setting for the client certificate, and how to use it. */
const CLIENT_CERTIFICATE_SETTINGS: Readonly<
  Record<TargetTls['pairFrom'], { readonly setting: string; readonly fix: string }>
> = {
  flags: {
    setting: '--client-cert',
    fix: 'pass one with --client-cert and --client-key, issued by an authority that the server trusts for clients',
  },
  upstream_tls: {
    setting: 'upstream_tls.certificate_path',
    fix: 'set certificate_path and key_path in upstream_tls to one that is issued by an authority that the server trusts for clients',
  },
};

const REFUSED_CERTIFICATE_FIX =
  'it must be within its validity, have the extended key usage clientAuth, and be issued by an authority that the server trusts for clients; see the log of the server';

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
    firstBytes: undefined,
    timeoutMs,
  });
  // A server that sends an alert speaks TLS, too.
  const isRefused = tlsFaultOf(codeOf(failure))?.startsWith('refused_') === true;
  const isTls = !failure || version !== undefined || isRefused;
  if (!isTls) return undefined;
  const [leaf] = certificates;
  const names = leaf && describeNames(certificateNames(leaf));
  return [version ?? 'TLS', names && `certificate for ${names}`].filter((part) => part).join(', ');
}

/** The TLS context of a target's handshakes. */
export function contextOf({ anchors, pair, minVersion }: TargetTls): SecureContext {
  return createSecureContext({
    ...contextParameters(minVersion, 'client'),
    ca: [...anchors.pem],
    allowPartialTrustChain: true,
    ...(pair && { cert: pair.certificatePem, key: pair.keyPem }),
  });
}

/** The protocols to offer with ALPN. */
function protocolsOf({ protocol }: CheckTarget): string[] {
  return protocol === 'grpc' ? [ALPN_H2] : ['http/1.1'];
}

/** Observes what a server sends in a handshake. */
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
    firstBytes: target.protocol === 'grpc' ? FIRST_BYTES : undefined,
    timeoutMs,
  });
}

/** Completes a handshake without verification, which earlier steps have done. Rejects with the TLS library's error. */
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
    socket.once('close', () => reject(new Error('the connection was closed during the TLS handshake')));
  });
}

/** Checks that the handshake completed, and reports version and cipher. */
export function checkTls(seen: HandshakeObservation, tls: TargetTls): CheckFinding {
  const { failure, version, cipher } = seen;
  if (!failure)
    return passed(`${version ?? 'unknown'}, ${cipher ?? 'unknown'}`, { facts: { version, cipher } });
  const code = codeOrMessage(failure);
  const fault = tlsFaultOf(code);
  if (failure instanceof HandshakeSilence)
    return failed(
      failure.message,
      'the server accepts connections but does not speak TLS: is it the right port?',
    );
  if (failure instanceof HandshakeBroken && version === undefined)
    return failed(
      failure.message,
      'the server does not speak TLS on this port, or a device in between closes the connection: Gitaly without TLS has a tcp:// address, usually with port 8075',
    );
  if (fault === 'not_a_record' || fault === 'invalid_record')
    return failed(
      `the server does not speak TLS on this port (${code})`,
      "use tcp:// if this is Gitaly's listen_addr; its usual port is 9999 with TLS and 8075 without",
    );
  if (fault === 'refused_version' || fault === 'unsupported_version')
    return failed(
      `no common TLS version (${code})`,
      'the server must speak TLS 1.2 or 1.3, as clients of Gitaly do',
    );
  if (fault === 'refused_name')
    return isIP(tls.serverName) === 0
      ? failed(
          `the server has no certificate or upstream for the name ${tls.serverName} (${code})`,
          'use a name that it serves: in ADDRESS, or with --server-name; a proxy lists its names in forward_by_server_name',
        )
      : failed(
          `the server requires a server name (SNI), which clients do not send for an IP address (${code})`,
          'use a name that it serves: in ADDRESS, or with --server-name; a proxy forwards clients without a name to the `default` of forward_by_server_name',
        );
  if (fault === 'refused_alpn')
    return failed(
      `the server does not offer h2 with ALPN (${code})`,
      'it is not a gRPC server: a load balancer in front of Gitaly must pass TCP through, or offer h2',
    );
  if (seen.asksForCertificate === true && refusesClient(failure, code))
    return tls.pair
      ? failed(
          `the client certificate of ${CLIENT_CERTIFICATE_SETTINGS[tls.pairFrom].setting} is refused (${code})`,
          REFUSED_CERTIFICATE_FIX,
        )
      : failed(`a client certificate is required (${code})`, CLIENT_CERTIFICATE_SETTINGS[tls.pairFrom].fix);
  if (fault === 'refused_handshake' || fault === 'no_common_cipher')
    return failed(
      `no common cipher suite (${code})`,
      'the server must offer ECDHE suites with AES-GCM or ChaCha20',
    );
  return failed(`the TLS handshake failed (${code})`, 'see the log of the server');
}

/** TLS 1.2 has no alert for a missing certificate, and some servers send no alert at all. */
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

/** Checks that the server selected `h2` with ALPN, as current gRPC clients require. */
export function checkAlpn({ protocol }: HandshakeObservation, target: CheckTarget): CheckFinding {
  const facts = { facts: { protocol: protocol ?? null } };
  if (target.protocol === 'http')
    return passed(protocol ?? 'none selected; HTTP/1.1 does not need it', facts);
  if (protocol === ALPN_H2) return passed(ALPN_H2, facts);
  return failed(
    'credentials: cannot check peer: missing selected ALPN property',
    'the TLS terminator in front of Gitaly does not support ALPN: let the load balancer pass TCP through, or offer h2',
    facts,
  );
}

/** Checks whether the server requests a client certificate, and whether it accepts ours. */
export function checkClientCertificate(seen: HandshakeObservation, tls: TargetTls): CheckFinding {
  const { asksForCertificate, sequel, failure } = seen;
  const facts = { facts: { asked_for: asksForCertificate ?? null, given: tls.pair !== undefined } };
  const { setting } = CLIENT_CERTIFICATE_SETTINGS[tls.pairFrom];
  if (asksForCertificate === undefined)
    return skipped('the handshake failed before the server could request one');
  if (!asksForCertificate)
    return passed(tls.pair ? `not requested: that of ${setting} was not sent` : 'not requested', facts);
  const code = codeOf(sequel.kind === 'left' ? sequel.error : failure);
  if (failure || sequel.kind === 'left') return refusedCertificate(tls, code === '' ? '' : ` (${code})`);
  switch (sequel.kind) {
    case 'answered':
      return passed(
        tls.pair ? `requested, and that of ${setting} is accepted` : 'requested, but not required',
        facts,
      );
    case 'silent':
      return passed('requested; the server sent nothing after the handshake, see the next steps', facts);
    case 'not_awaited':
      return passed('requested; only a request shows whether it is required', facts);
  }
}

/** The server requested a client certificate and refused ours, or requires one. `suffix` is the server's message. */
export function refusedCertificate(tls: TargetTls, suffix: string): CheckFinding {
  const facts = { facts: { asked_for: true, given: tls.pair !== undefined } };
  const { setting, fix } = CLIENT_CERTIFICATE_SETTINGS[tls.pairFrom];
  return tls.pair
    ? failed(`requested, and that of ${setting} is refused${suffix}`, REFUSED_CERTIFICATE_FIX, facts)
    : failed(`required, and none was given${suffix}`, fix, facts);
}
