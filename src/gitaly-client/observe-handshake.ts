import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { MAX_TAPPED_BYTES } from '../limits.js';
import { Certificate, peerCertificate } from '../x509/certificate.js';
import { startTls, type ClientHandshake } from '../tls/start-tls.js';
import { TappedStream } from '../tls/tapped-stream.js';
import { failedVerification, type Verification } from '../tls/verification.js';
import { readServerFlight } from './server-flight.js';

/** What was seen of a TLS server. */
export interface HandshakeObservation {
  /** Why the handshake did not come to its end. What was sent before that is told nevertheless. */
  readonly failure: Error | undefined;
  readonly version: string | undefined;
  /** The standard name. */
  readonly cipher: string | undefined;
  /** `undefined` where the server selected none. */
  readonly protocol: string | undefined;
  /** As the server sent them, the leaf first. */
  readonly certificates: readonly Certificate[];
  /** Whether a client certificate was asked for; `undefined` where that could not be seen. */
  readonly asksForCertificate: boolean | undefined;
  /** OpenSSL's verdict on the chain; `undefined` if it holds. */
  readonly verification: Verification | undefined;
  /** What came of the first words of the client behind the handshake. */
  readonly sequel: Sequel;
}

/**
 * In TLS 1.3 a server judges the client certificate when the handshake is over for the client. `answered`: it said
 * something; `left`: it ended the connection, with an alert perhaps; `silent`: neither within the time; `not_awaited`.
 */
export type Sequel =
  | { readonly kind: 'answered' | 'silent' | 'not_awaited' }
  | { readonly kind: 'left'; readonly error: Error | undefined };

/** How to shake hands. */
export interface ObservedHandshake extends ClientHandshake {
  /** What to say behind the handshake to a server that asked for a certificate, to see whether it listens. */
  readonly firstWords: Buffer | undefined;
  readonly timeoutMs: number;
}

/** Shakes hands on a connected socket, tells all that is to be seen of the server, and ends the connection. */
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
  { firstWords, timeoutMs }: ObservedHandshake,
): Promise<HandshakeObservation> {
  let secret: Buffer | undefined;
  tls.on('keylog', (line) => (secret ??= handshakeSecret(line)));
  const failure = await handshakeEnd(tls, timeoutMs);
  const flight = readServerFlight(sent.all, secret);
  const own = failure ? undefined : peerCertificate(tls);
  const chain = flight.certificates.flatMap((der) => parsed(der) ?? []);
  const common = {
    version: failure ? flight.version : (tls.getProtocol() ?? undefined),
    // What is sent compressed (RFC 8879) is known from the library alone.
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
      flight.asksForCertificate === true && firstWords !== undefined
        ? await sequelOf(tls, firstWords, timeoutMs)
        : { kind: 'not_awaited' },
  };
}

/** A certificate that OpenSSL cannot parse ended the handshake. */
function parsed(der: Buffer): Certificate | undefined {
  try {
    return new Certificate(der);
  } catch {
    return undefined;
  }
}

/** The first bytes that a server has sent. */
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
    const onClose = (): void => settle(new HandshakeBroken('the connection was closed within the handshake'));
    const settle = (failure: Error | undefined): void => {
      clearTimeout(timer);
      tls.off('secureConnect', onSecure).off('close', onClose).off('end', onClose);
      resolve(failure);
    };
    const onSecure = (): void => settle(undefined);
    tls.once('secureConnect', onSecure);
    tls.once('close', onClose);
    tls.once('end', onClose);
    // Stays: what comes later is told to whoever waits for the sequel, or to nobody.
    tls.on('error', settle);
  });
}

/** The server said nothing for too long. */
export class HandshakeSilence extends Error {}

/** The server left without a word. */
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
