import { ConnectionEnd } from '../connection-end.js';
import type { ConnectionContext } from '../connection-context.js';
import { parseProxyHeader, type ProxyHeaderResult } from '../proxy-header.js';
import { leftWithin } from './left-within.js';
import { putBack, readHead } from './read-head.js';

/** Reads the PROXY header if one is expected, and puts back the bytes after it. Returns an end if the connection is refused. */
export async function readProxyHeader(context: ConnectionContext): Promise<ConnectionEnd | undefined> {
  const { raw, facts, settings } = context;
  if (!settings.expectsProxyHeader(facts.socketEnd?.address)) return undefined;
  const stopTimer = context.endAfter(
    context.handshakeMs,
    () =>
      new ConnectionEnd(
        'proxy_header_timeout',
        'proxy',
        'no complete PROXY header within timeouts.handshake',
      ),
  );
  const head = await readHead(raw, context.signal, parse).finally(stopTimer);
  if ('interruption' in head) {
    return leftWithin(context, head, () => {
      return new ConnectionEnd('left_early', 'client', 'the client disconnected within its PROXY header');
    });
  }
  const { value, bytes } = head;
  if (value.kind === 'malformed') return new ConnectionEnd('proxy_header_malformed', 'proxy', value.detail);
  putBack(raw, bytes.subarray(value.consumed));
  if (!value.source) return undefined;
  facts.clientEnd = value.source;
  return context.admission.identified(value.source.address);
}

function parse(bytes: Buffer): Exclude<ProxyHeaderResult, { kind: 'incomplete' }> | undefined {
  const result = parseProxyHeader(bytes);
  return result.kind === 'incomplete' ? undefined : result;
}
