import type { Socket } from 'node:net';

import { UNAVAILABLE_WINDOW_MS, REFUSED_WINDOW_MS } from '../../limits.js';
import type { UpstreamFailure } from '../../upstream/failure.js';
import { GrpcCode, Http2Answer, type AnsweringServer, type CallStatus } from '../answer/call-answer.js';
import { ConnectionEnd } from '../connection-end.js';
import { unlessAborted, type ConnectionContext } from '../connection-context.js';
import { detectProtocol } from './detect-protocol.js';
import type { AdmittedClient } from './dial-upstream.js';
import { guarded } from '../../guarded.js';
import { BackchannelAnswer } from '../answer/backchannel-answer.js';
import type { Protocol } from '../protocol.js';
import type { Head } from './read-head.js';
import { isFiller, stopRead } from '../relay/hang-up.js';

/** The fix for a TLS upstream that closes the connection before its first byte; not every implementation sends an alert. */
export const LEFT_BEFORE_FIRST_BYTE =
  'the upstream closed the connection before its first byte; in TLS 1.3 a client certificate (upstream_tls.certificate_path) ' +
  'that is refused or missing looks like this: see the log of the upstream';

/**
 * Answers the first calls of a refused client with UNAUTHENTICATED, or with PERMISSION_DENIED if its identity is known but not
 * allowed; none of its bytes are forwarded. Always returns `refused`, even
 * if something else ends the connection meanwhile. `onAnswer` is called before the first answer.
 */
export async function refuseClient(
  context: ConnectionContext,
  stream: Socket,
  refused: ConnectionEnd,
  onAnswer: () => void,
): Promise<ConnectionEnd> {
  const { advice = '' } = context.facts;
  const head = await detectProtocol(context, stream, REFUSED_WINDOW_MS);
  // `detectProtocol` may have set other advice; the refusal takes precedence.
  context.facts.advice = advice === '' ? undefined : advice;
  if (head instanceof ConnectionEnd) return refused;
  onAnswer();
  const message = `${refused.detail}${advice && `; fix: ${advice}`}`;
  const code = refused.reason === 'client_not_allowed' ? GrpcCode.permissionDenied : GrpcCode.unauthenticated;
  const status = { code, message };
  await unlessAborted(context.signal, answerCalls(stream, head, status, REFUSED_WINDOW_MS));
  return refused;
}

/** Answers calls with UNAVAILABLE, because upstream cannot be reached. */
export async function answerUnreachable(
  context: ConnectionContext,
  { stream, protocol, head }: AdmittedClient,
  failure: UpstreamFailure,
): Promise<ConnectionEnd> {
  const { facts } = context;
  const url = facts.upstream ?? '';
  if (url.startsWith('tls:') && (failure.reason === 'closed' || failure.reason === 'reset'))
    facts.advice = LEFT_BEFORE_FIRST_BYTE;
  const message = `Gitaly at ${url} cannot be reached: ${failure.message}`;
  const status = { code: GrpcCode.unavailable, message };
  const sent = { value: protocol, bytes: head };
  const answered = answerCalls(stream, sent, status, UNAVAILABLE_WINDOW_MS);
  const interruption = await unlessAborted(context.signal, answered);
  if (interruption instanceof ConnectionEnd) return interruption;
  return new ConnectionEnd('upstream_unreachable', 'proxy', message);
}

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
