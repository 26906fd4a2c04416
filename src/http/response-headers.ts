import type { IncomingMessage } from 'node:http';

import { endToEnd, fieldsOf, outgoing, valuesOf, type Field, type OutgoingFields } from './hop-by-hop.js';

/**
 * The header of upstream's answer as the client gets it.
 *
 * @param takesTrailers - whether trailers can follow it: not to a client of HTTP/1.0, and not where there is no content.
 */
export function clientHeader(answer: IncomingMessage, takesTrailers: boolean): OutgoingFields {
  const received = fieldsOf(answer.rawHeaders);
  const trailers =
    takesTrailers && answer.headers['content-length'] === undefined ? valuesOf(received, 'trailer') : [];
  return outgoing([...endToEnd(received), ...trailers.map((value): Field => ['trailer', value])]);
}
