import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { codeOrMessage } from '../../error-codes.js';
import type { ServerTls } from '../../config/model.js';
import { MAX_LOGGED } from '../../limits.js';
import { cut } from '../../printable.js';
import { ClientHelloReader, type ClientHello, type ClientHelloResult } from '../../tls/client-hello.js';
import { ClientChainFault } from '../../tls/flight-guard.js';
import { handshakeFailure, type HandshakeFailure } from '../../tls/handshake-failure.js';
import { HELLO_ALERTS, type HelloAlert } from '../../tls/parameters.js';
import { JudgementFault, type TlsTerminator } from '../../tls/terminator.js';
import type { Dialer } from '../../upstream/dialer.js';
import { ConnectionEnd } from '../connection-end.js';
import { CLIENT_LEFT, unlessAborted, type ConnectionContext } from '../connection-context.js';
import { KEY_UPDATE_ADVICE } from '../limit-advice.js';
import { formatEnd } from '../peer-address.js';
import { describeUnknown } from '../protocol.js';
import { abort, farewell } from '../relay/abort.js';
import { adviceFor, leftWithin } from './left-within.js';
import { putBack, readHead } from './read-head.js';

/** A client whose bytes can be read. */
export interface OpenClient {
  /** The plaintext stream of the client, paused. */
  readonly stream: Socket;
  /** The same stream, if the listener terminates TLS. */
  readonly tls: TLSSocket | undefined;
  /** The dialer of the upstream that the client goes to. */
  readonly dialer: Dialer;
}

/** The reason that a ClientHello is refused: its listener does not have the requested name or protocol. */
interface Objection {
  readonly failure: 'unrecognized_name' | 'no_application_protocol';
  readonly detail: string;
}

/** Reads the ClientHello, which determines the upstream, and does the handshake. A plaintext listener does neither. */
export async function terminateTls(context: ConnectionContext): Promise<OpenClient | ConnectionEnd> {
  const { configuration, terminator, routes } = context.settings;
  const { tls } = configuration;
  if (!tls || !terminator) {
    if (!routes.only)
      throw new Error('a listener without TLS cannot choose between upstreams by server name');
    return { stream: context.raw, tls: undefined, dialer: routes.only };
  }
  const startedAtMs = performance.now();
  const hello = await readClientHello(context);
  if (hello instanceof ConnectionEnd) return hello;
  const dialer = chooseUpstream(context, hello.hello, tls);
  // OpenSSL would admit such a client, so the proxy sends the alert (RFC 6066 section 3, RFC 7301 section 3.2).
  if ('failure' in dialer) return helloRefused(context, dialer.failure, dialer.failure, dialer.detail);
  const socket = await finishHandshake(context, terminator, hello.length);
  if (socket instanceof ConnectionEnd) return socket;
  const facts = {
    version: socket.getProtocol() ?? 'unknown',
    cipher: socket.getCipher().standardName,
    resumed: socket.isSessionReused(),
  };
  context.facts.tls = facts;
  context.settings.events.handshakeFinished(facts, (performance.now() - startedAtMs) / 1000);
  return { stream: socket, tls: socket, dialer };
}

/** Reads the ClientHello and puts it back. */
async function readClientHello(
  context: ConnectionContext,
): Promise<Extract<ClientHelloResult, { kind: 'hello' }> | ConnectionEnd> {
  const reader = new ClientHelloReader();
  const parse = (bytes: Buffer): Exclude<ClientHelloResult, { kind: 'incomplete' }> | undefined => {
    const result = reader.read(bytes);
    return result.kind === 'incomplete' ? undefined : result;
  };
  const stopTimer = context.endAfter(context.handshakeMs, () =>
    handshakeTimedOut(context, 'no complete ClientHello within timeouts.handshake'),
  );
  const head = await readHead(context.raw, context.signal, parse).finally(stopTimer);
  if ('interruption' in head) {
    return leftWithin(context, head, () =>
      handshakeFailed(context, 'closed', 'the client disconnected within its ClientHello'),
    );
  }
  const { value, bytes } = head;
  switch (value.kind) {
    case 'hello':
      putBack(context.raw, bytes);
      return value;
    case 'malformed':
      return helloRefused(context, 'client_hello', value.alert, value.detail);
    case 'not_tls': {
      const detail = `the client does not speak TLS but ${describeUnknown(bytes)}`;
      return handshakeFailed(context, 'not_tls', detail);
    }
  }
}

/**
 * Chooses the upstream by the name in the ClientHello, also for a resumed session. Returns an objection if the listener has no
 * route for the name, or no protocol of the client.
 */
function chooseUpstream(
  { facts, settings }: ConnectionContext,
  { serverName, alpn }: ClientHello,
  { requireAlpn, protocols }: ServerTls,
): Dialer | Objection {
  const name = serverName === undefined ? undefined : cut(serverName, MAX_LOGGED.serverName);
  facts.serverName = name;
  const dialer = settings.routes.find(serverName);
  if (!dialer) {
    const detail =
      name === undefined ? 'the client asks for no name' : `the client asks for ${JSON.stringify(name)}`;
    return { failure: 'unrecognized_name', detail };
  }
  facts.upstream = dialer.address.url;
  const isOffered = alpn === undefined ? !requireAlpn : protocols.some((protocol) => alpn.includes(protocol));
  if (isOffered) return dialer;
  const offer =
    alpn === undefined
      ? 'offered no ALPN'
      : `offered ALPN ${cut(JSON.stringify(alpn), MAX_LOGGED.serverName)} without ${protocols.join(' or ')}`;
  const detail = `the client at ${formatEnd(facts.clientEnd)} ${offer}`;
  return { failure: 'no_application_protocol', detail };
}

async function finishHandshake(
  context: ConnectionContext,
  terminator: TlsTerminator,
  helloBytes: number,
): Promise<TLSSocket | ConnectionEnd> {
  const { raw, facts } = context;
  const stopTimer = context.endAfter(context.handshakeMs, () => handshakeTimedOut(context, ''));
  const onKeyUpdateFlood = (): void => {
    facts.advice = KEY_UPDATE_ADVICE;
    context.connection.cut(new ConnectionEnd('abuse', 'proxy', 'key_update_flood'));
  };
  const handshake = terminator
    .handshake(raw, facts.clientEnd?.address, facts.serverName, helloBytes, onKeyUpdateFlood)
    .then((socket) => {
      // Node does not destroy a TLS socket for a forged record or an alert, and may report no further event for it.
      socket.on('error', () => abort(raw, socket));
      return socket.pause();
    });
  try {
    const socket = await unlessAborted(context.signal, handshake);
    return socket === CLIENT_LEFT
      ? handshakeFailed(context, 'closed', 'the client disconnected within the handshake')
      : socket;
  } catch (error) {
    if (error instanceof JudgementFault) throw error.cause;
    if (error instanceof ClientChainFault) {
      // Node cannot send an alert within a handshake.
      abort(raw);
      return handshakeFailed(context, 'client_chain', error.message);
    }
    const code = codeOrMessage(error);
    return handshakeFailed(context, handshakeFailure(code), code);
  } finally {
    stopTimer();
  }
}

/**
 * Resets the connection, because no alert can be sent. In TLS 1.3 the handshake may be complete for the client while its last
 * bytes have not arrived here; such a client would treat a FIN as the end of an answer.
 */
function handshakeTimedOut(context: ConnectionContext, detail: string): ConnectionEnd {
  abort(context.raw);
  return handshakeFailed(context, 'timeout', detail);
}

function handshakeFailed(
  context: ConnectionContext,
  failure: HandshakeFailure,
  detail: string,
): ConnectionEnd {
  context.settings.events.handshakeFailed(failure);
  context.facts.advice = adviceFor(context, failure);
  const initiator = failure === 'closed' || failure === 'reset' ? 'client' : 'proxy';
  return new ConnectionEnd('handshake_failed', initiator, detail === '' ? failure : `${failure}: ${detail}`);
}

/** Refuses a ClientHello that OpenSSL has not seen: sends an alert and ends the connection. */
function helloRefused(
  context: ConnectionContext,
  failure: HandshakeFailure,
  alert: HelloAlert,
  detail: string,
): ConnectionEnd {
  farewell(context.raw, context.raw, HELLO_ALERTS[alert]);
  return handshakeFailed(context, failure, detail);
}
