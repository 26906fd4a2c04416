import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { MAX_TAPPED_BYTES } from '../limits.js';
import { Certificate, peerCertificate } from '../x509/certificate.js';
import { startTls, type ClientHandshake } from '../tls/start-tls.js';
import { TappedStream } from '../tls/tapped-stream.js';
import { failedVerification, type Verification } from '../tls/verification.js';
import { readServerFlight } from './server-flight.js';

/** The observed behaviour of a TLS server. */
export interface HandshakeObservation {
  /** The error that ended the handshake early. Fields that the server sent before it are still set. */
  readonly failure: Error | undefined;
  readonly version: string | undefined;
  /** The standard (IANA) name. */
  readonly cipher: string | undefined;
  /** The ALPN protocol; `undefined` if the server selected none. */
  readonly protocol: string | undefined;
  /** In the order sent by the server, the leaf first. */
  readonly certificates: readonly Certificate[];
  /** Whether the server requested a client certificate; `undefined` if that could not be determined. */
  readonly asksForCertificate: boolean | undefined;
  /** OpenSSL's verification error for the chain; `undefined` if the chain is valid. */
  readonly verification: Verification | undefined;
  /** How the server reacted to the first bytes after the handshake. */
  readonly sequel: Sequel;
}

/**
 * In TLS 1.3 a server verifies the client certificate after the client has completed its handshake. `answered`: the server
 * sent data; `left`: it closed the connection, possibly with an alert; `silent`: neither within the timeout; `not_awaited`: no
 * bytes were sent.
 */
export type Sequel =
  | { readonly kind: 'answered' | 'silent' | 'not_awaited' }
  | { readonly kind: 'left'; readonly error: Error | undefined };

/** The handshake to perform. */
export interface ObservedHandshake extends ClientHandshake {
  /** Bytes sent after the handshake to a server that requested a certificate, to find out whether it accepted ours. */
  readonly firstBytes: Buffer | undefined;
  readonly timeoutMs: number;
}

/** Performs a handshake on a connected socket, returns everything observed about the server, and closes the connection. */
export async function observeHandshake(
  raw: Socket,
  handshake: ObservedHandshake,
): Promise<HandshakeObservation> {
  const sent = new FirstBytes();
  const tap = new TappedStream(raw, (bytes) => sent.keep(bytes));
  const tls = startTls(tap, handshake);
  try {
    return await observe(tls, sent, handshake);
  } finally {
    tls.destroy();
    tap.destroy();
  }
}

async function observe(
  tls: TLSSocket,
  sent: FirstBytes,
  { firstBytes, timeoutMs }: ObservedHandshake,
): Promise<HandshakeObservation> {
  let secret: Buffer | undefined;
  tls.on('keylog', (line) => (secret ??= handshakeSecret(line)));
  const failure = await handshakeEnd(tls, timeoutMs);
  const flight = readServerFlight(sent.all, secret);
  const own = failure ? undefined : peerCertificate(tls);
  const chain = flight.certificates.flatMap((der) => parsed(der) ?? []);
  const common = {
    version: failure ? flight.version : (tls.getProtocol() ?? undefined),
    // A compressed Certificate message (RFC 8879) is not parsed here: only the TLS library knows its content.
    certificates: chain.length > 0 || own === undefined ? chain : [own],
    asksForCertificate: flight.asksForCertificate,
  };
  if (failure)
    return {
      ...common,
      failure,
      cipher: undefined,
      protocol: undefined,
      verification: undefined,
      sequel: { kind: 'not_awaited' },
    };
  const { alpnProtocol } = tls;
  return {
    ...common,
    failure: undefined,
    cipher: tls.getCipher().standardName,
    protocol: typeof alpnProtocol === 'string' ? alpnProtocol : undefined,
    verification: failedVerification(tls),
    sequel:
      flight.asksForCertificate === true && firstBytes !== undefined
        ? await sequelOf(tls, firstBytes, timeoutMs)
        : { kind: 'not_awaited' },
  };
}

/** Returns `undefined` if OpenSSL cannot parse the certificate, which also fails the handshake. */
function parsed(der: Buffer): Certificate | undefined {
  try {
    return new Certificate(der);
  } catch {
    return undefined;
  }
}

/** The first bytes sent by the server. */
class FirstBytes {
  readonly #kept: Buffer[] = [];
  #bytes = 0;

  keep(bytes: Buffer): true {
    if (this.#bytes < MAX_TAPPED_BYTES) {
      this.#kept.push(bytes);
      this.#bytes += bytes.length;
    }
    return true;
  }

  get all(): Buffer {
    return Buffer.concat(this.#kept);
  }
}

/** `SERVER_HANDSHAKE_TRAFFIC_SECRET <random> <secret>`, in the format of NSS key logs. */
function handshakeSecret(line: Buffer): Buffer | undefined {
  const [label, , secret] = line.toString('latin1').trim().split(' ');
  return label === 'SERVER_HANDSHAKE_TRAFFIC_SECRET' && secret !== undefined
    ? Buffer.from(secret, 'hex')
    : undefined;
}

function handshakeEnd(tls: TLSSocket, timeoutMs: number): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(
      () => settle(new HandshakeSilence(`no TLS handshake within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const onClose = (): void => settle(new HandshakeBroken('the connection was closed during the handshake'));
    const settle = (failure: Error | undefined): void => {
      clearTimeout(timer);
      tls.off('secureConnect', onSecure).off('close', onClose).off('end', onClose);
      resolve(failure);
    };
    const onSecure = (): void => settle(undefined);
    tls.once('secureConnect', onSecure);
    tls.once('close', onClose);
    tls.once('end', onClose);
    // Not removed: an error after the handshake would otherwise be unhandled. `sequelOf` handles it if it is running.
    tls.on('error', settle);
  });
}

/** The handshake timed out. */
export class HandshakeSilence extends Error {}

/** The server closed the connection without an alert. */
export class HandshakeBroken extends Error {}

function sequelOf(tls: TLSSocket, firstWords: Buffer, timeoutMs: number): Promise<Sequel> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle({ kind: 'silent' }), timeoutMs);
    const settle = (sequel: Sequel): void => {
      clearTimeout(timer);
      resolve(sequel);
    };
    tls.once('data', () => settle({ kind: 'answered' }));
    tls.once('error', (error: Error) => settle({ kind: 'left', error }));
    tls.once('end', () => settle({ kind: 'left', error: undefined }));
    tls.once('close', () => settle({ kind: 'left', error: tls.errored ?? undefined }));
    tls.write(firstWords);
  });
}
