import {
  type ChannelCredentials,
  Client,
  type ClientOptions,
  credentials,
  InterceptingCall,
  type Interceptor,
  Metadata,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';

import { OWN_CONNECTION } from './grpc-channel.js';
import { demoService, HEALTH_REQUEST, healthService } from '../../src/commands/demo/demo-service.js';

/** The CAs that a TLS client trusts, and the certificate that it presents, as PEM. */
export interface ClientTls {
  readonly ca: string;
  readonly certificate?: string;
  readonly key?: string;
}

/** Calls `DemoBackend` through a listener, as a gRPC library does. Each call rejects with grpc-js' `ServiceError`. */
export class GrpcClient {
  readonly #client: Client;
  readonly #waitForReady: boolean;

  /**
   * For `tls://` listeners `tls` has the trusted CAs; `serverName` is requested and verified. It is closed with the test.
   * `waitForReady`: unary calls and `repeat` wait for a listener, and a connection is attempted every few milliseconds.
   */
  constructor(listener: URL, tls?: ClientTls, { waitForReady = false, serverName = 'localhost' } = {}) {
    this.#waitForReady = waitForReady;
    const target = listener.protocol === 'unix:' ? `unix:${listener.pathname}` : listener.host;
    this.#client = libraryClient(target, tls, {
      'grpc.ssl_target_name_override': serverName,
      'grpc.default_authority': serverName,
      ...(waitForReady && { 'grpc.initial_reconnect_backoff_ms': 20, 'grpc.max_reconnect_backoff_ms': 20 }),
    });
  }

  close(): void {
    this.#client.close();
  }

  /** `grpc.health.v1.Health/Check` of the whole server: the answer's bytes. */
  health(): Promise<Buffer> {
    return this.#unary(healthService.check, HEALTH_REQUEST);
  }

  /** Sends a message and returns the one that comes back. */
  echo(message: Buffer): Promise<Buffer> {
    return this.#unary(demoService.echo, message);
  }

  /** A server stream: the messages that came back. */
  repeat(message: Buffer): Promise<Buffer[]> {
    const { path, requestSerialize, responseDeserialize } = demoService.repeat;
    const call = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      message,
      new Metadata({ waitForReady: this.#waitForReady }),
    );
    const received: Buffer[] = [];
    return new Promise((resolve, reject) => {
      call.on('data', (answer: Buffer) => received.push(answer));
      call.on('error', reject);
      call.on('end', () => resolve(received));
    });
  }

  /**
   * A server stream that is read no further than its first two messages, so that it stays open for as long as the
   * test needs; `rest` reads to its end and returns the number of messages. More than a window of HTTP/2 (64 KiB) must be left.
   */
  async repeatUnread(message: Buffer): Promise<{ rest: () => Promise<number> }> {
    const { path, requestSerialize, responseDeserialize } = demoService.repeat;
    let readOn = (): void => undefined;
    const released = new Promise<void>((resolve) => (readOn = resolve));
    const call = this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, message, {
      interceptors: [heldAfterFirst(released)],
    });
    let received = 0;
    call.on('data', () => received++);
    const ended = new Promise<number>((resolve, reject) => {
      call.on('error', reject);
      call.on('end', () => resolve(received));
    });
    ended.catch(() => undefined);
    await new Promise<void>((resolve) => call.once('data', () => resolve()));
    return {
      rest: () => {
        readOn();
        return ended;
      },
    };
  }

  /** A client stream: how many bytes the server has counted. */
  count(messages: readonly Buffer[]): Promise<number> {
    const { path, requestSerialize, responseDeserialize } = demoService.count;
    return new Promise((resolve, reject) => {
      const call = this.#client.makeClientStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        (error, answer) => settle(error, answer, (bytes) => resolve(Number(bytes.toString())), reject),
      );
      for (const message of messages) call.write(message);
      call.end();
    });
  }

  #unary(method: MethodDefinition<Buffer, Buffer>, message: Buffer): Promise<Buffer> {
    const { path, requestSerialize, responseDeserialize } = method;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        message,
        new Metadata({ waitForReady: this.#waitForReady }),
        (error, answer) => settle(error, answer, resolve, reject),
      );
    });
  }
}

/** The library's own client of a `host:port`: in plaintext, or with `tls`, of a server named `localhost` unless `options` name another. It is closed with the test. */
export function libraryClient(
  address: string,
  tls: ClientTls | undefined,
  options: ClientOptions = {},
): Client {
  const client = new Client(address, channelCredentials(tls), {
    ...OWN_CONNECTION,
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
}

/**
 * Holds the second message of a call back. The library asks for no third one until it has the second; pausing the
 * call instead would not do, as a paused call still reads 16 messages ahead.
 */
function heldAfterFirst(released: Promise<void>): Interceptor {
  return (options, nextCall) => {
    let first = true;
    return new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        next(metadata, {
          onReceiveMessage(message, deliver) {
            if (first) deliver(message);
            else void released.then(() => deliver(message));
            first = false;
          },
        });
      },
    });
  };
}

function channelCredentials(tls: ClientTls | undefined): ChannelCredentials {
  if (!tls) return credentials.createInsecure();
  const bytes = (pem: string | undefined): Buffer | null => (pem === undefined ? null : Buffer.from(pem));
  return credentials.createSsl(Buffer.from(tls.ca), bytes(tls.key), bytes(tls.certificate));
}

function settle(
  error: ServiceError | null,
  answer: Buffer | undefined,
  resolve: (answer: Buffer) => void,
  reject: (error: Error) => void,
): void {
  if (error) reject(error);
  else if (answer) resolve(answer);
  else reject(new Error('neither an answer nor an error came'));
}
