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
import { MAX_HEALTH_MESSAGE_BYTES } from '../limits.js';

/** What a unary call was answered with. */
export interface CallResult {
  readonly code: StatusCode;
  /** What the server said about it; empty for most calls that succeed. */
  readonly message: string;
  /** There if and only if the code is OK. */
  readonly response: Buffer | undefined;
}

/** A call without an answer: the connection was lost, or the answer is not gRPC. */
export class CallFailure extends Error {}

/** An HTTP server answered that is not a gRPC server. Its status is unrelated to any gRPC service. */
export class NotGrpc extends CallFailure {}

/** Compressed flag (0) and the length of a message, big endian (gRPC over HTTP/2, "Length-Prefixed-Message"). */
const MESSAGE_PREFIX_BYTES = 5;

/**
 * A gRPC client on a connection that is there already, a stream of yamux or one of TLS: unary calls, no retries, no
 * connection of its own. grpc-js can only dial.
 */
export class GrpcClient {
  readonly #session: ClientHttp2Session;
  readonly #stream: Duplex;
  #failure: Error | undefined;

  /** `authority`: the name of the server, for `:authority`. */
  constructor(stream: Duplex, authority: string, scheme: 'http' | 'https') {
    this.#stream = stream;
    this.#session = connect(`${scheme}://${authority}`, { createConnection: () => stream });
    // Whoever waits for a call is told; without a listener Node would end the process.
    this.#session.on('error', (error: Error) => (this.#failure ??= error));
    stream.on('error', (error: Error) => (this.#failure ??= error));
  }

  /**
   * Makes one call. Rejects with a `CallFailure` if there is no answer, and after `timeoutMs` milliseconds.
   *
   * @param path - such as `/grpc.health.v1.Health/Check`.
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
      // What broke is the connection, which tells of it itself, or the stream, whose code tells.
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

  /** Ends the connection, and the stream below it. */
  close(): void {
    this.#session.destroy();
    this.#stream.destroy();
  }

  #broken(): CallFailure {
    const failure = this.#stream.errored ?? this.#failure;
    if (!failure) return new CallFailure('the connection was closed before an answer');
    return new CallFailure(failure.message, { cause: failure });
  }
}

/** Collects what comes on the stream of a call. */
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

  /** `undefined` where none had come by the end of the connection. */
  result(connectionIsOver: boolean): CallResult | CallFailure | undefined {
    if (this.#bytes > MAX_HEALTH_MESSAGE_BYTES) return new CallFailure('the answer is too large');
    const header = this.#header;
    // A trailers-only answer has its status in the header.
    const status = text(this.#trailer, 'grpc-status') ?? (header && text(header, 'grpc-status'));
    const words = text(this.#trailer, 'grpc-message') ?? (header && text(header, 'grpc-message')) ?? '';
    if (status === undefined) {
      if (connectionIsOver) return undefined;
      if (header === undefined) return this.#ofReset();
      const httpStatus = String(header[':status']);
      const type = text(header, 'content-type') ?? 'no content type';
      return new NotGrpc(`the answer is not gRPC (HTTP status ${httpStatus}, ${type}, no grpc-status)`);
    }
    const code = statusCode(status);
    if (code !== 'OK') return { code, message: percentDecoded(words), response: undefined };
    const response = unwrapped(Buffer.concat(this.#content));
    return response === undefined
      ? new CallFailure('the answer holds no whole message of gRPC')
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

/** The one message of an answer; nothing was said of a compression that we know, so it has none. */
function unwrapped(content: Buffer): Buffer | undefined {
  if (content.length < MESSAGE_PREFIX_BYTES || content[0] !== 0) return undefined;
  if (content.readUInt32BE(1) !== content.length - MESSAGE_PREFIX_BYTES) return undefined;
  return content.subarray(MESSAGE_PREFIX_BYTES);
}
