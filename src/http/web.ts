import { IncomingMessage, type ClientRequest } from 'node:http';

import http2Proxy from 'http2-proxy';

import type { Exchanged } from './message.js';
import { UnaskedUpgrade } from './upstream-fault.js';

/** What http2-proxy asks as a request goes by. */
export interface WebHooks {
  /** Makes the request to upstream; its header is what is sent, not what http2-proxy would have made of the client's. */
  readonly onReq: () => ClientRequest;
  /** Passes the answer on to the client. */
  readonly onRes: (answer: IncomingMessage) => void;
}

/**
 * Has http2-proxy pass a request to upstream and wait for its end.
 *
 * It resolves when the answer was written or the client has left, and rejects when upstream has failed; it answers nothing
 * itself then. What must be known of version 5.0.53, and is guarded here or by whoever calls:
 * - it listens to upstream's request only some microtasks after `onReq`: nothing may happen to that before;
 * - it passes a 101 on that nobody has asked for, byte by byte into the answer;
 * - it writes content to upstream's request piece by piece, drops that of GET, HEAD and OPTIONS, and leaves the client's
 *   content-length: whoever makes the request writes and ends it (see `exchange.ts`), and http2-proxy does not get to it.
 */
export async function passThrough(exchanged: Exchanged, { onReq, onRes }: WebHooks): Promise<void> {
  const hooks = {
    // Its types want to know where to; the request that `onReq` returns does.
    hostname: '',
    port: 0,
    onReq: async (): Promise<ClientRequest> => {
      // From here to the listeners there are microtasks alone, and Node tells of a request in none.
      await Promise.resolve();
      const made: { sent?: ClientRequest } = {};
      // Asked for before the request is made: Node gives it a socket that was kept in the tick behind this one.
      process.nextTick(() => {
        if (made.sent) takeOver(made.sent);
      });
      const sent = onReq();
      made.sent = sent;
      return sent;
    },
    onRes: (_request: unknown, _response: unknown, answer: unknown): Promise<void> => {
      // Its types say that it were the client's answer.
      if (!(answer instanceof IncomingMessage)) throw new Error('http2-proxy has changed: no answer');
      onRes(answer);
      return Promise.resolve();
    },
  };
  if (exchanged.protocol === 'http2') await http2Proxy.web(exchanged.request, exchanged.response, hooks);
  else await http2Proxy.web(exchanged.request, exchanged.response, hooks);
}

/** Replaces listeners of http2-proxy. */
function takeOver(sent: ClientRequest): void {
  // Once there is a socket, it would read the content, and write it piece by piece.
  sent.removeAllListeners('socket');
  // Without any of these, Node would end the request and tell nobody.
  sent.removeAllListeners('upgrade');
  sent.once('upgrade', (_answer, socket) => {
    socket.destroy();
    sent.emit('error', new UnaskedUpgrade('it answers with an upgrade that was not asked for'));
  });
}
