import { MAX_CLIENT_FLIGHT_BYTES } from '../limits.js';
import { chainFault } from './client-chain.js';
import { certificatesOf, readServerHello, RecordDecrypter, type ServerHello } from './handshake-records.js';
import {
  HandshakeMessages,
  Message,
  RECORD_HEADER_BYTES,
  recordAt,
  RecordType,
  type TlsRecord,
} from './wire-format.js';

const UNREADABLE = 'the handshake of the client cannot be read';

/** A line of OpenSSL's key log (`SSL_CTX_set_keylog_callback`): label, client random and secret. */
const CLIENT_SECRET = /^CLIENT_HANDSHAKE_TRAFFIC_SECRET \S+ (\S+)/;

/**
 * Reads the client's messages of a handshake before OpenSSL reads them, to limit their length and the cost of its certificates.
 * In TLS 1.3 they are encrypted, with a key that is used for the handshake only.
 */
export class ClientFlight {
  /** The remaining bytes of the ClientHello, which has been read already. */
  #helloLeft: number;
  readonly #bytes = Buffer.allocUnsafe(MAX_CLIENT_FLIGHT_BYTES);
  #length = 0;
  /** The start of the first incomplete record. */
  #record = 0;
  /** The handshake messages, decrypted. */
  readonly #messages = new HandshakeMessages();
  #serverHello: ServerHello | undefined;
  #secret: Buffer | undefined;
  #decrypter: RecordDecrypter | undefined;
  #isOver = false;

  /** @param helloBytes - the length of the ClientHello's records. */
  constructor(helloBytes: number) {
    this.#helloLeft = helloBytes;
  }

  /** Takes a line of OpenSSL's key log. */
  keylog(line: Buffer): void {
    const [, secret] = CLIENT_SECRET.exec(line.toString('latin1')) ?? [];
    if (secret !== undefined) this.#secret = Buffer.from(secret, 'hex');
  }

  /** Takes the first message of the server: its ServerHello, or a HelloRetryRequest. */
  serverSends(bytes: Buffer): void {
    if (this.#serverHello || bytes[0] !== RecordType.handshake) return;
    const messages = new HandshakeMessages();
    messages.add(bytes.subarray(RECORD_HEADER_BYTES));
    const message = messages.next();
    if (message?.type === Message.serverHello) this.#serverHello = readServerHello(message.body);
  }

  /** Whether the client's part of the handshake has been read completely. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Takes the client's bytes before OpenSSL does; not after the handshake. Returns why OpenSSL must not get them. */
  read(bytes: Buffer): string | undefined {
    const hello = Math.min(this.#helloLeft, bytes.length);
    this.#helloLeft -= hello;
    this.#length += bytes.copy(this.#bytes, this.#length, hello);
    for (;;) {
      const record = recordAt(this.#bytes, this.#record, this.#length);
      if (!record) break;
      this.#record = record.end;
      const fault = this.#readRecord(record);
      if (fault !== undefined || this.#isOver) return fault;
    }
    return this.#length < MAX_CLIENT_FLIGHT_BYTES
      ? undefined
      : `the handshake of the client is longer than ${MAX_CLIENT_FLIGHT_BYTES} bytes`;
  }

  #readRecord({ type, header, content }: TlsRecord): string | undefined {
    // A client sends nothing before the server's answer, because the tickets do not allow early data.
    if (!this.#serverHello) return UNREADABLE;
    const isTls13 = this.#serverHello.version === 'TLSv1.3';
    switch (type) {
      case RecordType.handshake:
        return this.#readMessages(content);
      case RecordType.changeCipherSpec:
        // In TLS 1.3 it has no meaning (appendix D.4); in TLS 1.2 only Finished follows.
        this.#isOver = !isTls13;
        return undefined;
      case RecordType.alert:
        return undefined;
      case RecordType.applicationData:
        return isTls13 ? this.#readEncrypted(header, content) : UNREADABLE;
      default:
        return UNREADABLE;
    }
  }

  #readEncrypted(header: Buffer, content: Buffer): string | undefined {
    const suite = this.#serverHello?.suite;
    if (!suite || !this.#secret) return UNREADABLE;
    this.#decrypter ??= new RecordDecrypter(suite, this.#secret);
    const inner = this.#decrypter.decrypt(header, content);
    if (!inner) return UNREADABLE;
    return inner.type === RecordType.handshake ? this.#readMessages(inner.content) : undefined;
  }

  #readMessages(content: Buffer): string | undefined {
    this.#messages.add(content);
    for (let message = this.#messages.next(); message; message = this.#messages.next()) {
      const { type, body } = message;
      if (type === Message.finished) this.#isOver = true;
      if (type === Message.compressedCertificate) return UNREADABLE;
      if (type !== Message.certificate) continue;
      const fault = chainFault(certificatesOf(body, this.#serverHello?.version === 'TLSv1.3'));
      if (fault !== undefined) return fault;
    }
    return undefined;
  }
}
