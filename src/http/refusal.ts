import { STATUS_CODES } from 'node:http';

import type { HeaderFault } from '../inspect/http2/client-frames.js';

/** Why a request is not passed on; label `reason` of `http_requests_refused_total`. A closed set. */
export type RefusalReason =
  /** It is no correct HTTP, or can be read in two ways. */
  | 'malformed'
  | 'header_too_large'
  /** It has another version of HTTP than 1.0 and 1.1 on a connection of HTTP/1.1. */
  | 'version'
  /** Its content has a transfer coding besides `chunked`. */
  | 'transfer_coding'
  /** The client's certificate was refused, or it has none. */
  | 'client_certificate'
  /** Its path is none of `paths`. */
  | 'path'
  /** CONNECT and TRACE, which are not for passing on. */
  | 'method'
  /** It expects something else than 100-continue. */
  | 'expectation'
  | 'draining'
  /** No file descriptors are left to reach upstream with. */
  | 'descriptors'
  /** The memory of the process is nearly used up. */
  | 'memory';

/** What a client is told: Gitaly shows the message to the person who pushes. */
export interface RefusalAnswer {
  readonly status: number;
  readonly message: string;
}

export const REFUSALS: Readonly<Record<RefusalReason, RefusalAnswer>> = {
  malformed: { status: 400, message: 'the request is malformed' },
  header_too_large: { status: 431, message: 'the header of the request is too large' },
  version: { status: 505, message: 'the versions of HTTP that are served here are 1.0, 1.1 and 2' },
  transfer_coding: { status: 501, message: 'the only transfer coding that is served here is chunked' },
  client_certificate: {
    status: 403,
    message: 'this needs a client certificate that is accepted here; the log of gitaly-tls-proxy says why',
  },
  path: { status: 404, message: 'this path is not served here' },
  method: { status: 405, message: 'this method is not served here' },
  expectation: { status: 417, message: 'only the expectation 100-continue is known' },
  draining: { status: 503, message: 'the proxy in front of GitLab is being restarted: please try again' },
  descriptors: { status: 503, message: 'the proxy in front of GitLab is at its limit: please try again' },
  memory: { status: 503, message: 'the proxy in front of GitLab is at its limit: please try again' },
};

/** That a request is refused; the detail is for the log. */
export interface Refusal {
  readonly reason: RefusalReason;
  readonly detail?: string;
}

/** What an HTTP/2 request is refused for whose header, or trailers, must not be passed on. */
export const HEADER_FAULTS: Readonly<Record<HeaderFault, Refusal>> = {
  forbidden_field: {
    reason: 'malformed',
    detail: 'a field holds a character that HTTP forbids there (RFC 9113 section 8.2.1)',
  },
  too_large: { reason: 'header_too_large' },
};

/** Why upstream did not answer; label `reason` of `http_upstream_failures_total`. A closed set. */
export type UpstreamFault =
  /** It could not be reached; `upstream_connect_failures_total` says why. */
  | 'unreachable'
  /** It ended the connection before its answer began. */
  | 'closed'
  /** It ended the connection within its answer. */
  | 'cut'
  /** Its answer is no HTTP. */
  | 'malformed'
  /** It took nothing of the request for `timeouts.write_stall`. */
  | 'write_stall';

/** What a client is told whose request got no answer; it names nothing of what is behind the proxy. */
export const BAD_GATEWAY: RefusalAnswer = {
  status: 502,
  message: 'GitLab cannot be reached at the moment: please try again',
};

/** The body of an answer of the proxy's own, in the form of GitLab's internal API. */
export function answerBody({ message }: RefusalAnswer): string {
  return JSON.stringify({ message });
}

/** An answer in HTTP/1.1, where there is no parser any more to write one. */
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
