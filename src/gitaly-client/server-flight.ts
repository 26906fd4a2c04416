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

/** What a TLS server said in its side of a handshake, read from the bytes that came. */
export interface ServerFlight {
  /** `undefined` where the server said nothing that could be read. */
  readonly version: 'TLSv1.2' | 'TLSv1.3' | undefined;
  /** DER, in the order they were sent; none where its Certificate did not come or could not be read. */
  readonly certificates: readonly Buffer[];
  /** Whether it asked for a client certificate; `undefined` where its flight could not be read as far as that. */
  readonly asksForCertificate: boolean | undefined;
}

/**
 * Reads the handshake messages of a server. Node tells a client neither whether it was asked for a certificate nor which
 * certificates were sent (its chain is made up from the trust store). In TLS 1.2 both stand in the clear.
 *
 * @param received - what came from the server, from its first byte on.
 * @param secret - of TLS 1.3: SERVER_HANDSHAKE_TRAFFIC_SECRET, which Node's `keylog` event tells.
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

  /** `false` once there is no more to read. */
  record({ type, header, content }: TlsRecord): boolean {
    switch (type) {
      case RecordType.handshake:
        return this.#collect(content);
      case RecordType.changeCipherSpec:
        // In TLS 1.3 it means nothing (appendix D.4); in TLS 1.2 all that follows is encrypted.
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
        // In TLS 1.3 the request stands before the certificate, in TLS 1.2 behind it.
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
