import {
  certificatesOf,
  readServerHello,
  RecordDecrypter,
  type ServerHello,
} from '../tls/handshake-records.js';
import {
  HandshakeMessages,
  Message,
  recordAt,
  RecordType,
  type HandshakeMessage,
  type TlsRecord,
} from '../tls/wire-format.js';

/** The handshake messages of a TLS server, parsed from the received bytes. */
export interface ServerFlight {
  /** `undefined` if no valid ServerHello was received. */
  readonly version: 'TLSv1.2' | 'TLSv1.3' | undefined;
  /** DER, in the order sent; empty if the Certificate message was not received or could not be parsed. */
  readonly certificates: readonly Buffer[];
  /** Whether the server requested a client certificate; `undefined` if that part of the flight could not be read. */
  readonly asksForCertificate: boolean | undefined;
}

/**
 * Reads the handshake messages of a server. Node does not report whether the server requested a client certificate, nor which
 * certificates it sent (Node completes the chain from the trust store). In TLS 1.2 both are sent unencrypted.
 *
 * @param received - the bytes from the server, starting with the first.
 * @param secret - SERVER_HANDSHAKE_TRAFFIC_SECRET from Node's `keylog` event (TLS 1.3 only).
 */
export function readServerFlight(received: Buffer, secret: Buffer | undefined): ServerFlight {
  const flight = new FlightReader(secret);
  let record = recordAt(received, 0);
  while (record && flight.record(record)) record = recordAt(received, record.end);
  return flight;
}

class FlightReader implements ServerFlight {
  certificates: Buffer[] = [];
  asksForCertificate: boolean | undefined;
  readonly #secret: Buffer | undefined;
  #serverHello: ServerHello | undefined;
  #decrypter: RecordDecrypter | undefined;
  readonly #messages = new HandshakeMessages();

  constructor(secret: Buffer | undefined) {
    this.#secret = secret;
  }

  get version(): ServerFlight['version'] {
    return this.#serverHello?.version;
  }

  /** Returns `false` when there is nothing more to read. */
  record({ type, header, content }: TlsRecord): boolean {
    switch (type) {
      case RecordType.handshake:
        return this.#collect(content);
      case RecordType.changeCipherSpec:
        // TLS 1.3 ignores it (RFC 8446, appendix D.4). In TLS 1.2 all later records are encrypted.
        return this.version === 'TLSv1.3';
      case RecordType.applicationData:
        return this.#decrypt(header, content);
      default:
        return false;
    }
  }

  #decrypt(header: Buffer, content: Buffer): boolean {
    if (!this.#decrypter) {
      if (!this.#secret || !this.#serverHello?.suite) return false;
      this.#decrypter = new RecordDecrypter(this.#serverHello.suite, this.#secret);
    }
    const inner = this.#decrypter.decrypt(header, content);
    return inner?.type === RecordType.handshake && this.#collect(inner.content);
  }

  #collect(content: Buffer): boolean {
    this.#messages.add(content);
    for (let message = this.#messages.next(); message; message = this.#messages.next())
      if (!this.#message(message)) return false;
    return true;
  }

  #message({ type, body }: HandshakeMessage): boolean {
    switch (type) {
      case Message.serverHello:
        this.#serverHello = readServerHello(body);
        return true;
      case Message.certificate:
        this.certificates = certificatesOf(body, this.version === 'TLSv1.3');
        // CertificateRequest precedes Certificate in TLS 1.3 and follows it in TLS 1.2.
        if (this.version === 'TLSv1.3') this.asksForCertificate ??= false;
        return true;
      case Message.certificateRequest:
        this.asksForCertificate = true;
        return true;
      case Message.serverHelloDone:
      case Message.finished:
        this.asksForCertificate ??= false;
        return false;
      default:
        return true;
    }
  }
}
