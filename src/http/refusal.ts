import { STATUS_CODES } from 'node:http';

import type { HeaderFault } from '../inspect/http2/client-frames.js';

/** The reason that a request is refused; label `reason` of `http_requests_refused_total`. A closed set. */
export type RefusalReason =
  /** It is malformed or ambiguous. */
  | 'malformed'
  | 'header_too_large'
  /** It states an HTTP version other than 1.0 and 1.1 on an HTTP/1.1 connection. */
  | 'version'
  /** Its content has a transfer coding besides `chunked`. */
  | 'transfer_coding'
  /** The client's certificate was refused, or it has none. */
  | 'client_certificate'
  /** Its path is not below any of `paths`. */
  | 'path'
  /** CONNECT, TRACE or an unknown method, which are not forwarded. */
  | 'method'
  /** It has an expectation other than 100-continue. */
  | 'expectation'
  | 'draining'
  /** No file descriptors are left for a connection to upstream. */
  | 'descriptors'
  /** The memory of the process is nearly exhausted. */
  | 'memory';

/** The answer to a refused request. Gitaly shows the message to the user who pushes. */
export interface RefusalAnswer {
  readonly status: number;
  readonly message: string;
}

export const REFUSALS: Readonly<Record<RefusalReason, RefusalAnswer>> = {
  malformed: { status: 400, message: 'the request is malformed' },
  header_too_large: { status: 431, message: 'the header of the request is too large' },
  version: { status: 505, message: 'unsupported HTTP version: 1.0, 1.1 and 2 are supported here' },
  transfer_coding: { status: 501, message: 'unsupported transfer coding: only chunked is supported here' },
  client_certificate: {
    status: 403,
    message: 'client certificate missing or rejected; the log of gitaly-tls-proxy contains the reason',
  },
  path: { status: 404, message: 'this path is not served here' },
  method: { status: 405, message: 'this method is not served here' },
  expectation: { status: 417, message: 'unsupported expectation: only 100-continue is supported here' },
  draining: { status: 503, message: 'the proxy in front of GitLab is being restarted: please try again' },
  descriptors: { status: 503, message: 'the proxy in front of GitLab is at its limit: please try again' },
  memory: { status: 503, message: 'the proxy in front of GitLab is at its limit: please try again' },
};

/** A refusal of a request. The detail is for the log. */
export interface Refusal {
  readonly reason: RefusalReason;
  readonly detail?: string;
}

/** The refusals of HTTP/2 requests whose header or trailers must not be forwarded. */
export const HEADER_FAULTS: Readonly<Record<HeaderFault, Refusal>> = {
  forbidden_field: {
    reason: 'malformed',
    detail: 'a header field contains a forbidden character (RFC 9113 section 8.2.1)',
  },
  too_large: { reason: 'header_too_large' },
};

/** The reason that upstream did not answer; label `reason` of `http_upstream_failures_total`. A closed set. */
export type UpstreamFault =
  /** It could not be reached; `upstream_connect_failures_total` has the reason. */
  | 'unreachable'
  /** It ended the connection before its answer began. */
  | 'closed'
  /** It ended the connection within its answer. */
  | 'cut'
  /** Its answer is malformed, or not one that the proxy can forward. */
  | 'malformed'
  /** It stopped reading the request for `timeouts.write_stall`. */
  | 'write_stall';

/** The answer to a request that upstream did not answer. It contains no details of the network behind the proxy. */
export const BAD_GATEWAY: RefusalAnswer = {
  status: 502,
  message: 'GitLab cannot be reached at the moment: please try again',
};

/** Returns the body of an answer of the proxy, in the format of GitLab's internal API. */
export function answerBody({ message }: RefusalAnswer): string {
  return JSON.stringify({ message });
}

/** Encodes an answer for HTTP/1.1, for a connection that no longer has a parser to write one. */
export function rawAnswer(answer: RefusalAnswer): Buffer {
  const body = answerBody(answer);
  const head = [
    `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
}
