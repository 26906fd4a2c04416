import { IncomingMessage, type ClientRequest } from 'node:http';

import http2Proxy from 'http2-proxy';

import type { Exchanged } from './message.js';
import { UnaskedUpgrade } from './upstream-fault.js';

/** The callbacks of http2-proxy for one request. */
export interface WebHooks {
  /** Creates the request to upstream. Its header is sent, not the one that http2-proxy would derive from the client's. */
  readonly onReq: () => ClientRequest;
  /** Forwards the answer to the client. */
  readonly onRes: (answer: IncomingMessage) => void;
}

/**
 * Forwards a request to upstream with http2-proxy and waits for its end.
 *
 * Resolves when the answer was written or the client has disconnected. Rejects when upstream has failed; http2-proxy sends no answer
 * then. Version 5.0.53 has these properties, which the code here or the caller works around:
 * - It adds its listeners to upstream's request only some microtasks after `onReq`. No event may occur before.
 * - It forwards an unrequested 101, byte by byte, into the answer.
 * - It writes content to upstream's request chunk by chunk, drops that of GET, HEAD and OPTIONS, and keeps the client's
 *   content-length. The caller therefore writes and ends the request itself (see `upstream-side.ts`), and http2-proxy never does.
 */
export async function passThrough(exchanged: Exchanged, { onReq, onRes }: WebHooks): Promise<void> {
  const hooks = {
    // Required by its types; the request that `onReq` returns has the real address.
    hostname: '',
    port: 0,
    onReq: async (): Promise<ClientRequest> => {
      // Only microtasks run between here and the listeners, and Node emits no event of a request in a microtask.
      await Promise.resolve();
      const made: { sent?: ClientRequest } = {};
      // Must be scheduled before the request is created: Node assigns a kept socket to the request in the tick after this one.
      process.nextTick(() => {
        if (made.sent) takeOver(made.sent);
      });
      const sent = onReq();
      made.sent = sent;
      return sent;
    },
    onRes: (_request: unknown, _response: unknown, answer: unknown): Promise<void> => {
      // Its types declare the client's response here, but it is upstream's answer.
      if (!(answer instanceof IncomingMessage)) throw new Error('http2-proxy has changed: no answer');
      onRes(answer);
      return Promise.resolve();
    },
  };
  if (exchanged.protocol === 'http2') await http2Proxy.web(exchanged.request, exchanged.response, hooks);
  else await http2Proxy.web(exchanged.request, exchanged.response, hooks);
}

/** Replaces the listeners of http2-proxy on upstream's request. */
function takeOver(sent: ClientRequest): void {
  // Once the request has a socket, http2-proxy would read the content and write it chunk by chunk.
  sent.removeAllListeners('socket');
  // Without an `upgrade` listener, Node would end the request without an event.
  sent.removeAllListeners('upgrade');
  sent.once('upgrade', (_answer, socket) => {
    socket.destroy();
    sent.emit('error', new UnaskedUpgrade('it answered with an upgrade that was not requested'));
  });
}
