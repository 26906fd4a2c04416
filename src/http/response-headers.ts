import type { IncomingMessage } from 'node:http';

import {
  endToEnd,
  fieldsOf,
  listOf,
  oneLineEach,
  outgoing,
  passedTrailers,
  valuesOf,
  type Field,
  type OutgoingFields,
} from './hop-by-hop.js';
import type { Exchanged } from './message.js';

/**
 * The header of upstream's answer as the client gets it.
 *
 * @param takesTrailers - whether trailers can follow it: not to a client of HTTP/1.0, and not where there is no content.
 */
export function clientHeader(
  answer: IncomingMessage,
  protocol: Exchanged['protocol'],
  takesTrailers: boolean,
): OutgoingFields {
  const received = fieldsOf(answer.rawHeaders);
  const hasLength = valuesOf(received, 'content-length').length > 0;
  const trailers = takesTrailers && !hasLength ? valuesOf(received, 'trailer') : [];
  const passed = [...endToEnd(received), ...trailers.map((value): Field => ['trailer', value])];
  return asSent(passed, protocol);
}

/** The trailers of upstream's answer as the client gets them. */
export function clientTrailers(
  rawTrailers: readonly string[],
  protocol: Exchanged['protocol'],
): OutgoingFields {
  return asSent(passedTrailers(rawTrailers), protocol);
}

/** Whether an answer that has content ends with its connection alone (RFC 9112 section 6.3, the last case). */
export function isEndless({ rawHeaders }: IncomingMessage): boolean {
  const received = fieldsOf(rawHeaders);
  const coding = valuesOf(received, 'transfer-encoding').flatMap(listOf).at(-1);
  return coding !== 'chunked' && valuesOf(received, 'content-length').length === 0;
}

function asSent(fields: readonly Field[], protocol: Exchanged['protocol']): OutgoingFields {
  return outgoing(protocol === 'http2' ? oneLineEach(fields) : fields);
}
