import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';

/** A request and the answer to it, over HTTP/1.1 or HTTP/2. */
export type Exchanged =
  | { readonly protocol: 'http1'; readonly request: IncomingMessage; readonly response: ServerResponse }
  | {
      readonly protocol: 'http2';
      readonly request: Http2ServerRequest;
      readonly response: Http2ServerResponse;
    };

/** The facts of a request, over HTTP/1.1 or HTTP/2. */
export interface HttpRequest {
  readonly protocol: Exchanged['protocol'];
  readonly method: string;
  /** The target as received. */
  readonly url: string;
  /** The version that the client states: Node's parser accepts 0.9, 1.0, 1.1 and 2.0 on an HTTP/1.1 connection. */
  readonly httpVersion: string;
  /** Alternating names and values as received; in HTTP/2 with pseudo-headers. */
  readonly rawHeaders: readonly string[];
  /** Whether content may follow the header. */
  readonly hasContent: boolean;
  readonly expectation: Expectation;
}

/** The value of `Expect` (RFC 9110 section 10.1.1). `continue`: the client waits for 100 Continue before it sends content. */
export type Expectation = 'none' | 'continue' | 'unknown';

/** Reads the facts of a request. */
export function describeRequest({ protocol, request }: Exchanged, expectation: Expectation): HttpRequest {
  const { method = '', url = '', httpVersion, rawHeaders, headers } = request;
  const hasContent =
    protocol === 'http2'
      ? !request.stream.endAfterHeaders
      : headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  return { protocol, method, url, httpVersion, rawHeaders, hasContent, expectation };
}
