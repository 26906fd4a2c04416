import { request as plainRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import {
  connect as connectHttp2,
  type ClientHttp2Session,
  type SecureClientSessionOptions,
} from 'node:http2';
import { request as tlsRequest, type RequestOptions } from 'node:https';
import { text } from 'node:stream/consumers';

import { onTestFinished } from 'vitest';

/** An answer, read to its end. */
export interface HttpAnswer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly rawHeaders: readonly string[];
  readonly trailers: IncomingMessage['trailers'];
  readonly body: string;
}

/** Reads an answer to its end; rejects if it is aborted. */
export async function readAnswer(response: IncomingMessage): Promise<HttpAnswer> {
  const body = await text(response);
  const { statusCode: status, headers, rawHeaders, trailers } = response;
  return { status, headers, rawHeaders, trailers, body };
}

/** Begins a request in HTTP/1.1; `headers` of `https` options make it one over TLS. It ends with the test. */
export function begin(url: string, options: RequestOptions = {}): ClientRequest {
  const make = url.startsWith('https:') ? tlsRequest : plainRequest;
  // No agent: a connection of its own, `Connection: close`, and no ALPN, as Gitaly's.
  const request = make(url, { agent: false, servername: 'localhost', ...options });
  onTestFinished(() => void request.destroy());
  return request;
}

/** The answer of a request, once its header has come. */
export function answerOf(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
}

/** Makes a request in HTTP/1.1 and reads its answer. */
export async function ask(url: string, options: RequestOptions = {}, body?: string): Promise<HttpAnswer> {
  const request = begin(url, options);
  request.end(body);
  return readAnswer(await answerOf(request));
}

/** A connection of HTTP/2; it is destroyed with the test. */
export function http2Client(
  port: number,
  options: Pick<SecureClientSessionOptions, 'ca' | 'cert' | 'key'>,
): ClientHttp2Session {
  const session = connectHttp2(`https://localhost:${port}`, { ...options, host: '127.0.0.1' });
  onTestFinished(() => session.destroy());
  session.on('error', noteError);
  return session;
}

/** The answer to a request over HTTP/2. */
export interface Http2Answer {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly trailers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

/** Makes a request over HTTP/2 and reads its answer; rejects if the stream is reset. */
export async function askHttp2(
  session: ClientHttp2Session,
  headers: Readonly<Record<string, string | string[]>>,
  body?: string,
): Promise<Http2Answer> {
  const stream = session.request(headers, { endStream: body === undefined });
  const answer: Record<string, unknown> = {};
  const trailers: Record<string, unknown> = {};
  stream.on('response', (received: object) => Object.assign(answer, received));
  stream.on('trailers', (received: object) => Object.assign(trailers, received));
  if (body !== undefined) stream.end(body);
  return { headers: answer, trailers, body: await text(stream) };
}

function noteError(): void {
  // A test looks at its requests.
}
