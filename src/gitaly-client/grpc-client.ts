import {
  connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import type { Duplex } from 'node:stream';

import { percentDecoded } from '../percent-encoding.js';
import { guarded } from '../guarded.js';
import { statusCode, statusCodeOfReset, type StatusCode } from '../inspect/grpc/grpc-status.js';
import { MESSAGE_PREFIX_BYTES } from '../inspect/grpc/message-counter.js';
import { MAX_HEALTH_MESSAGE_BYTES } from '../limits.js';

/** The result of a unary call. */
export interface CallResult {
  readonly code: StatusCode;
  /** The decoded `grpc-message`. Usually empty if the call succeeded. */
  readonly message: string;
  /** Set if and only if the code is OK. */
  readonly response: Buffer | undefined;
}

/** A call without a valid response: it timed out, the connection was lost, or the response is not gRPC. */
export class CallFailure extends Error {}

/** The server speaks HTTP but not gRPC. Its HTTP status is unrelated to any gRPC service. */
export class NotGrpc extends CallFailure {}

/**
 * A gRPC client for an existing connection, a yamux or TLS stream. It makes unary calls, does not retry, and does not dial.
 * grpc-js cannot be used because it always dials.
 */
export class GrpcClient {
  readonly #session: ClientHttp2Session;
  readonly #stream: Duplex;
  #failure: Error | undefined;

  /** `authority` is sent as `:authority`. */
  constructor(stream: Duplex, authority: string, scheme: 'http' | 'https') {
    this.#stream = stream;
    this.#session = connect(`${scheme}://${authority}`, { createConnection: () => stream });
    // Pending calls reject with this error. Without a listener, Node would end the process.
    this.#session.on('error', (error: Error) => (this.#failure ??= error));
    stream.on('error', (error: Error) => (this.#failure ??= error));
  }

  /**
   * Makes one call. Rejects with a `CallFailure` without a valid response within `timeoutMs` milliseconds.
   *
   * @param path - for example `/grpc.health.v1.Health/Check`.
   */
  call(path: string, request: Uint8Array, timeoutMs: number, authorization?: string): Promise<CallResult> {
    return new Promise((resolve, reject) => {
      if (this.#session.destroyed || this.#session.closed) {
        reject(this.#broken());
        return;
      }
      const stream = this.#session.request({
        [constants.HTTP2_HEADER_METHOD]: 'POST',
        [constants.HTTP2_HEADER_PATH]: path,
        [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
        [constants.HTTP2_HEADER_TE]: 'trailers',
        'grpc-timeout': `${timeoutMs}m`,
        ...(authorization !== undefined && { authorization }),
      });
      const answer = new PendingAnswer(stream);
      const timer = setTimeout(() => {
        reject(new CallFailure(`no answer within ${timeoutMs} ms`));
        stream.close(constants.NGHTTP2_CANCEL);
      }, timeoutMs);
      // A connection error is recorded by the listeners above; a stream error is visible in `rstCode`.
      stream.on('error', () => undefined);
      const onClose = (): void => {
        clearTimeout(timer);
        const result = answer.result(this.#session.destroyed);
        if (result === undefined) reject(this.#broken());
        else if (result instanceof CallFailure) reject(result);
        else resolve(result);
      };
      stream.once('close', guarded(reject, onClose));
      stream.end(message(request));
    });
  }

  /** Closes the connection and its underlying stream. */
  close(): void {
    this.#session.destroy();
    this.#stream.destroy();
  }

  #broken(): CallFailure {
    const failure = this.#stream.errored ?? this.#failure;
    if (!failure) return new CallFailure('the connection was closed before a response');
    return new CallFailure(failure.message, { cause: failure });
  }
}

/** Collects the response on the stream of a call. */
class PendingAnswer {
  readonly #stream: ClientHttp2Stream;
  readonly #content: Buffer[] = [];
  #bytes = 0;
  #header: IncomingHttpHeaders | undefined;
  #trailer: IncomingHttpHeaders = {};

  constructor(stream: ClientHttp2Stream) {
    this.#stream = stream;
    stream.once('response', (header: IncomingHttpHeaders) => {
      this.#header = header;
    });
    stream.once('trailers', (trailer: IncomingHttpHeaders) => {
      this.#trailer = trailer;
    });
    stream.on('data', (bytes: Buffer) => {
      this.#bytes += bytes.length;
      if (this.#bytes > MAX_HEALTH_MESSAGE_BYTES) stream.close(constants.NGHTTP2_CANCEL);
      else this.#content.push(bytes);
    });
  }

  /** Returns `undefined` if the connection ended before a response arrived. */
  result(connectionIsOver: boolean): CallResult | CallFailure | undefined {
    if (this.#bytes > MAX_HEALTH_MESSAGE_BYTES) return new CallFailure('the response is too large');
    const header = this.#header;
    // A trailers-only response has its status in the header.
    const status = text(this.#trailer, 'grpc-status') ?? (header && text(header, 'grpc-status'));
    const words = text(this.#trailer, 'grpc-message') ?? (header && text(header, 'grpc-message')) ?? '';
    if (status === undefined) {
      if (connectionIsOver) return undefined;
      if (header === undefined) return this.#ofReset();
      const httpStatus = String(header[':status']);
      const type = text(header, 'content-type') ?? 'no content type';
      return new NotGrpc(`the response is not gRPC (HTTP status ${httpStatus}, ${type}, no grpc-status)`);
    }
    const code = statusCode(status);
    if (code !== 'OK') return { code, message: percentDecoded(words), response: undefined };
    const response = unwrapped(Buffer.concat(this.#content));
    return response === undefined
      ? new CallFailure('the response does not contain a complete gRPC message')
      : { code, message: percentDecoded(words), response };
  }

  #ofReset(): CallResult | undefined {
    const { rstCode } = this.#stream;
    if (rstCode === constants.NGHTTP2_NO_ERROR) return undefined;
    return { code: statusCodeOfReset(rstCode), message: `reset with code ${rstCode}`, response: undefined };
  }
}

function text(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
}

function message(content: Uint8Array): Buffer {
  const prefix = Buffer.alloc(MESSAGE_PREFIX_BYTES);
  prefix.writeUInt32BE(content.length, 1);
  return Buffer.concat([prefix, content]);
}

/** Returns the only message of a response. It must be uncompressed, because the request offered no compression. */
function unwrapped(content: Buffer): Buffer | undefined {
  if (content.length < MESSAGE_PREFIX_BYTES || content[0] !== 0) return undefined;
  if (content.readUInt32BE(1) !== content.length - MESSAGE_PREFIX_BYTES) return undefined;
  return content.subarray(MESSAGE_PREFIX_BYTES);
}
