import { message } from './frames.js';
import type { Plan } from './plan.js';

/** What both ends of a connection say that is spoken by hand. */

export const BACKCHANNEL = Buffer.from('backchannel', 'latin1');
export const SIDECHANNEL_OK = Buffer.from('ok', 'latin1');

export const ANSWER_HEADERS = { ':status': '200', 'content-type': 'application/grpc' };
export const TRAILERS = { 'grpc-status': '0' };

/** On the backchannel the call is unary, its answer short: the sidechannel carries the bytes. */
const SHORT_ANSWER_BYTES = 40;

/** The request's header fields. */
export function requestHeaders({ kind, number, route }: Plan): Record<string, string> {
  return {
    ':method': 'POST',
    ':scheme': route === 'tls to tcp' ? 'https' : 'http',
    ':path':
      kind === 'backchannel'
        ? '/gitaly.SmartHTTPService/PostUploadPackWithSidechannel'
        : '/gitaly.SSHService/SSHReceivePack',
    ':authority': 'localhost',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...(kind === 'backchannel' && { 'gitaly-sidechannel-id': String(number) }),
  };
}

/** What Gitaly says first on a sidechannel. */
export function sidechannelHead({ number }: Plan): Buffer {
  const id = Buffer.alloc(8);
  id.writeBigInt64BE(BigInt(number));
  return Buffer.concat([Buffer.from('sidechannel', 'latin1'), id]);
}

/** The content of the answer's DATA. */
export function answerBody({ kind }: Plan, down: Buffer): Buffer {
  return message(kind === 'backchannel' ? down.subarray(0, SHORT_ANSWER_BYTES) : down);
}
