import {
  handshakeAdvice,
  whyRefused,
  type HandshakeFailure,
  type Presented,
} from '../../tls/handshake-failure.js';
import { ConnectionEnd } from '../connection-end.js';
import { CLIENT_LEFT, type ConnectionContext } from '../connection-context.js';
import type { IncompleteHead } from './read-head.js';

/**
 * Returns the end of a connection that was interrupted within a stage.
 *
 * @param left - returns the end if the client has disconnected. If the client has sent no bytes in this stage, the connection counts
 * as a probe instead.
 */
export function leftWithin(
  context: ConnectionContext,
  { interruption, receivedBytes }: IncompleteHead,
  left: () => ConnectionEnd,
): ConnectionEnd {
  if (interruption !== CLIENT_LEFT) return interruption;
  // Some clients, such as grpc-js, verify the certificate after the handshake and close the connection without an alert.
  const presented = context.facts.tls && presentedTo(context);
  if (presented) context.facts.advice = whyRefused(presented, new Date());
  return receivedBytes === 0 ? new ConnectionEnd('probe', 'client') : left();
}

/** Returns the fix for a failed handshake, if one is known. */
export function adviceFor(context: ConnectionContext, failure: HandshakeFailure): string | undefined {
  const presented = presentedTo(context);
  return presented && handshakeAdvice(failure, presented, new Date());
}

/** Returns the certificate and protocols that the client was offered in its handshake. */
function presentedTo({ settings, facts }: ConnectionContext): Presented | undefined {
  const { configuration, terminator } = settings;
  if (!configuration.tls || !terminator) return undefined;
  const { serverName } = facts;
  const { protocols } = configuration.tls;
  return { protocols, certificate: terminator.certificateFor(serverName), serverName };
}
