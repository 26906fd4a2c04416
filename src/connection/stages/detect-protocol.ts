import type { Socket } from 'node:net';

import { ConnectionEnd } from '../connection-end.js';
import type { ConnectionContext } from '../connection-context.js';
import { describeUnknown, isTls, protocolOf, type Protocol } from '../protocol.js';
import { leftWithin } from './left-within.js';
import { readHead, type Head } from './read-head.js';

const TLS_ON_PLAINTEXT =
  'have the client dial tcp:// instead of tls://, or give it a tls:// listener: this one is plaintext';

/** Waits for the bytes that identify the protocol of a gRPC client, and returns them. */
export async function detectProtocol(
  context: ConnectionContext,
  stream: Socket,
  deadlineMs: number,
): Promise<Head<Protocol> | ConnectionEnd> {
  const { facts, settings } = context;
  const stopTimer = context.endAfter(
    deadlineMs,
    () => new ConnectionEnd('preface_timeout', 'proxy', 'no complete preface within timeouts.preface'),
  );
  const head = await readHead(stream, context.signal, protocolOf).finally(stopTimer);
  if ('interruption' in head) {
    return leftWithin(context, head, () => {
      return new ConnectionEnd('left_early', 'client', 'the client disconnected within its first bytes');
    });
  }
  const { value, bytes } = head;
  if (value === 'unknown') {
    if (isTls(bytes) && !settings.terminator) facts.advice = TLS_ON_PLAINTEXT;
    return new ConnectionEnd('protocol_unknown', 'proxy', describeUnknown(bytes));
  }
  facts.protocol = value;
  settings.events.protocolDetected(value);
  return { value, bytes };
}
