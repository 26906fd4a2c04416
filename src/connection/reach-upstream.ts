import type { Upstream } from '../upstream/dialer.js';
import { UpstreamFailure } from '../upstream/failure.js';
import { ConnectionEnd } from './close-reason.js';
import type { ConnectionFacts } from './facts.js';
import type { OpenedClient } from './opening.js';
import { encodeProxyHeader } from './proxy-header.js';
import { ClientLeft } from './read-head.js';
import type { ConnectionSettings } from './settings.js';
import type { Stages } from './stage.js';
import { answerUnavailable } from './unavailable.js';

/**
 * Dials upstream for a client that has passed every check. If that fails, an HTTP/2 client has its calls answered
 * with UNAVAILABLE first; a backchannel client, whose protocol has no such answer, is closed at once.
 * @throws ConnectionEnd
 */
export async function reachUpstream(
  client: OpenedClient,
  settings: ConnectionSettings,
  facts: ConnectionFacts,
  stages: Stages,
): Promise<Upstream> {
  const { dialer, configuration, events } = settings;
  const { send } = configuration.proxyProtocol;
  const startedAtMs = performance.now();
  const dial = dialer.dial(
    settings.terminator ? 'tls' : 'plain',
    send && encodeProxyHeader(send, facts.clientEnd, facts.localEnd),
  );
  try {
    const upstream = await stages.run(dial.done);
    events.upstreamConnected((performance.now() - startedAtMs) / 1000);
    return upstream;
  } catch (error) {
    if (!(error instanceof UpstreamFailure)) {
      dial.cancel(error instanceof Error ? error : new Error(String(error)));
      // Nobody waits for the dial any more, and it may have connected in this very turn.
      dial.done.then(({ raw }) => raw.destroy()).catch(() => undefined);
      throw error instanceof ClientLeft
        ? new ConnectionEnd('reset', 'client', 'the client left while upstream was dialled')
        : error;
    }
    events.upstreamFailed(error.reason);
    const message = `Gitaly at ${dialer.address.url} cannot be reached: ${error.message}`;
    if (client.head.value === 'http2') {
      try {
        await stages.run(answerUnavailable(client.stream, client.head.bytes, message));
      } catch (interruption) {
        if (!(interruption instanceof ClientLeft)) throw interruption;
      }
    }
    throw new ConnectionEnd('upstream_unreachable', 'proxy', message);
  }
}
