import type { Socket } from 'node:net';

import { guarded } from '../../guarded.js';
import { BackchannelAnswer } from './backchannel-answer.js';
import { Http2Answer, type AnsweringServer, type CallStatus } from './call-answer.js';
import type { Protocol } from '../protocol.js';
import type { Head } from '../stages/read-head.js';
import { isFiller, stopRead } from '../relay/hang-up.js';

/**
 * Answers the calls of a client that no upstream serves, as a gRPC server without services does. Settles when the end has been
 * sent and the client has closed the connection, or after another `windowMs`. The caller then closes the connection.
 *
 * @param head - all bytes of the client so far.
 * @param windowMs - how long calls are answered before the end is sent.
 */
export function answerCalls(
  stream: Socket,
  head: Head<Protocol>,
  status: CallStatus,
  windowMs: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const answer: AnsweringServer =
      head.value === 'http2' ? new Http2Answer(status) : new BackchannelAnswer(status);
    let timer = setTimeout(end, windowMs);
    const send = (bytes: Buffer): void => {
      // A client frame of 9 bytes costs a reply of 200 bytes, so a client that does not read is not read either.
      if (bytes.length > 0 && stream.writable && !stream.write(bytes)) stopRead(stream);
      if (answer.closed) lingerThenResolve();
    };
    function end(): void {
      send(answer.end());
    }
    function lingerThenResolve(): void {
      if (!stream.writableEnded) stream.end();
      clearTimeout(timer);
      timer = setTimeout(resolve, windowMs);
    }
    const leave = (): void => {
      clearTimeout(timer);
      resolve();
    };
    const onData = (bytes: Buffer): void => {
      if (!answer.closed && !isFiller(bytes)) send(answer.receive(bytes));
    };
    stream.on('data', guarded(reject, onData));
    stream.on('drain', () => stream.resume());
    stream.once('end', leave);
    stream.once('close', leave);
    send(Buffer.concat([answer.begin(), answer.receive(head.bytes)]));
    // A client that has ended its side already makes no further calls.
    if (stream.readableEnded) end();
    else stream.resume();
  });
}
