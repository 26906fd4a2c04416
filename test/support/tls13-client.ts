import { createCipheriv, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

import { onTestFinished } from 'vitest';

const SUITE = 'TLS_AES_128_GCM_SHA256';
const ContentType = { handshake: 22, applicationData: 23 } as const;
const KEY_UPDATE = 24;

/** RFC 8446 section 7.1, for lengths up to that of the hash. */
function expandLabel(secret: Buffer, label: string, length: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`, 'latin1');
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

/**
 * A TLS 1.3 client that writes its own records once the handshake, done by Node, is complete. It can send what no library
 * sends. The records of the server are not decrypted.
 */
export class Tls13Client {
  /** The socket below TLS. */
  readonly raw: Socket;
  #secret: Buffer;
  #key: Buffer = Buffer.alloc(0);
  #iv: Buffer = Buffer.alloc(0);
  #records = 0;

  private constructor(raw: Socket, secret: Buffer) {
    this.raw = raw;
    this.#secret = secret;
    this.#deriveKeys();
  }

  /** Connects to `localhost`; it is destroyed with the test. */
  static async connect(port: number, options: ConnectionOptions): Promise<Tls13Client> {
    const raw = connectTcp({ host: '127.0.0.1', port });
    onTestFinished(() => void raw.destroy());
    raw.on('error', () => undefined);
    const below = new Duplex({
      read: () => undefined,
      write: (bytes: Buffer, _encoding, done) => void raw.write(bytes, () => done()),
    });
    const pass = (bytes: Buffer): void => void below.push(bytes);
    raw.on('data', pass);
    const tls = connectTls({
      socket: below,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      ciphers: SUITE,
      ...options,
    });
    let secret: Buffer | undefined;
    tls.on('keylog', (line: Buffer) => {
      const [, hex] = /^CLIENT_TRAFFIC_SECRET_0 \S+ (\S+)/.exec(line.toString('latin1')) ?? [];
      if (hex !== undefined) secret = Buffer.from(hex, 'hex');
    });
    await once(tls, 'secureConnect');
    // The server's tickets answer the last message of the handshake, which has been written then.
    if (!tls.isSessionReused()) await once(tls, 'session');
    raw.off('data', pass);
    if (!secret) throw new Error('the TLS library has logged no secret');
    return new Tls13Client(raw, secret);
  }

  /** A record of application data. */
  data(content: Buffer): Buffer {
    return this.#seal(ContentType.applicationData, content);
  }

  /** A KeyUpdate; records that are sealed afterwards have the new key. */
  keyUpdate(requestsAnswer = false): Buffer {
    const record = this.#seal(
      ContentType.handshake,
      Buffer.from([KEY_UPDATE, 0, 0, 1, Number(requestsAnswer)]),
    );
    this.#secret = expandLabel(this.#secret, 'traffic upd', 32);
    this.#deriveKeys();
    return record;
  }

  /** This number of KeyUpdates, one behind the other. */
  keyUpdates(count: number, requestsAnswer = false): Buffer {
    return Buffer.concat(Array.from({ length: count }, () => this.keyUpdate(requestsAnswer)));
  }

  #deriveKeys(): void {
    this.#key = expandLabel(this.#secret, 'key', 16);
    this.#iv = expandLabel(this.#secret, 'iv', 12);
    this.#records = 0;
  }

  #seal(type: number, content: Buffer): Buffer {
    const length = content.length + 1 + 16;
    const header = Buffer.from([ContentType.applicationData, 3, 3, length >> 8, length & 0xff]);
    const nonce = Buffer.from(this.#iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#records++) >>> 0, 8);
    const cipher = createCipheriv('aes-128-gcm', this.#key, nonce).setAAD(header);
    const sealed = Buffer.concat([
      cipher.update(Buffer.concat([content, Buffer.from([type])])),
      cipher.final(),
    ]);
    return Buffer.concat([header, sealed, cipher.getAuthTag()]);
  }
}
