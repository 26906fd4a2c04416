import { UpstreamFailure } from '../upstream/failure.js';
import { ConnectionEnd } from './connection-end.js';
import type { ConnectionTransition } from './connection-state.js';
import type { ConnectionContext } from './connection-context.js';
import { RelayedConnection } from './relayed-connection.js';
import { detectProtocol } from './stages/detect-protocol.js';
import { dialUpstream } from './stages/dial-upstream.js';
import { identifyClient } from './stages/identify-client.js';
import { readProxyHeader } from './stages/read-proxy-header.js';
import { answerUnreachable, refuseClient } from './stages/refuse-client.js';
import { terminateTls } from './stages/terminate-tls.js';

/**
 * The data path of a gRPC connection, from its accepted socket to its end:
 * PROXY header, TLS, identity, protocol, upstream, relay.
 *
 * A stage returns its result, or the end of a connection that it refuses. An exception is a bug in the proxy.
 *
 * @param advance - changes the state of the connection.
 */
export async function serveConnection(
  context: ConnectionContext,
  advance: (transition: ConnectionTransition) => void,
): Promise<ConnectionEnd> {
  const { settings } = context;
  const { timeouts } = settings.configuration;

  const misdirected = await readProxyHeader(context);
  if (misdirected) return misdirected;

  const client = await terminateTls(context);
  if (client instanceof ConnectionEnd) return client;
  const { stream, dialer } = client;

  const refused = identifyClient(context, client);
  if (refused) return refuseClient(context, stream, refused, () => advance({ kind: 'answer' }));

  const head = await detectProtocol(context, stream, timeouts.prefaceMs);
  if (head instanceof ConnectionEnd) return head;

  const dialledAtMs = performance.now();
  const { url } = dialer.address;
  const dialled = await dialUpstream(context, stream, head, dialer);
  if (dialled instanceof ConnectionEnd) return dialled;
  const dialSeconds = (performance.now() - dialledAtMs) / 1000;
  const { client: admitted, upstream } = dialled;
  if (upstream instanceof UpstreamFailure) {
    settings.events.upstreamFailed(url, upstream.reason);
    advance({ kind: 'answer' });
    return answerUnreachable(context, admitted, upstream);
  }

  const relayed = new RelayedConnection(context, admitted, { upstream, url, dialSeconds });
  advance({ kind: 'relay', relayed });
  const outcome = await relayed.run();
  if (outcome instanceof ConnectionEnd) return outcome;
  advance({ kind: 'answer' });
  return answerUnreachable(context, { ...admitted, head: outcome.sent }, outcome.failure);
}
