import type { IncomingMessage } from 'node:http';

import {
  endToEnd,
  fieldsOf,
  listOf,
  oneLineEach,
  outgoing,
  passedTrailers,
  valuesOf,
  type HeaderField,
  type OutgoingFields,
} from './hop-by-hop.js';
import type { Exchanged } from './message.js';

/**
 * Returns the header of upstream's answer for the client.
 *
 * RFC 9110 section 8.6: an answer 204 has no length; HTTP/2 clients treat one as a protocol error. The length of a 205 is 0.
 *
 * @param takesTrailers - whether trailers can follow: not to an HTTP/1.0 client, and not without content.
 */
export function clientHeader(
  answer: IncomingMessage,
  protocol: Exchanged['protocol'],
  takesTrailers: boolean,
): OutgoingFields {
  const received = fieldsOf(answer.rawHeaders);
  const hasLength = valuesOf(received, 'content-length').length > 0;
  const trailers = takesTrailers && !hasLength ? valuesOf(received, 'trailer') : [];
  const passed = [...endToEnd(received), ...trailers.map((value): HeaderField => ['trailer', value])];
  const { statusCode } = answer;
  const isLengthless = statusCode === 204 || statusCode === 205;
  const sent = isLengthless ? passed.filter(([name]) => name !== 'content-length') : passed;
  return asSent(statusCode === 205 ? [...sent, ['content-length', '0']] : sent, protocol);
}

/** Returns the trailers of upstream's answer for the client. */
export function clientTrailers(
  rawTrailers: readonly string[],
  protocol: Exchanged['protocol'],
): OutgoingFields {
  return asSent(passedTrailers(rawTrailers), protocol);
}

/** Whether content can follow the header of an answer (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5). */
export function hasContent(status: number | undefined, method: string): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 205 && status !== 304;
}

/** Whether only the end of the connection marks the end of an answer with content (RFC 9112 section 6.3, the last case). */
export function isEndless({ rawHeaders }: IncomingMessage): boolean {
  const received = fieldsOf(rawHeaders);
  const coding = valuesOf(received, 'transfer-encoding').flatMap(listOf).at(-1);
  return coding !== 'chunked' && valuesOf(received, 'content-length').length === 0;
}

function asSent(fields: readonly HeaderField[], protocol: Exchanged['protocol']): OutgoingFields {
  return outgoing(protocol === 'http2' ? oneLineEach(fields) : fields);
}
