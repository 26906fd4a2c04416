import type { X509Certificate } from 'node:crypto';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';

import type { NetworkAddress } from '../../config/model.js';
import { error, type Finding } from '../../tls/judge/finding.js';
import { sentChain } from '../../tls/sent-chain.js';
import { UpstreamFailure, upstreamFailure } from '../../upstream/failure.js';
import { dialHost } from '../../upstream/happy-eyeballs.js';
import type { ServedTls } from './report.js';

const DEADLINE_MS = 10_000;

/** What a server presents, or why it presents nothing. */
export type Fetched =
  | { readonly ok: true; readonly certificates: readonly X509Certificate[]; readonly tls: ServedTls }
  | { readonly ok: false; readonly finding: Finding };

/**
 * Does a TLS handshake with a server, as a client of Gitaly would, and looks at what it sends; nothing is verified, and
 * nothing but the handshake is sent.
 */
export async function fetchChain({ host, port }: NetworkAddress): Promise<Fetched> {
  const dial = dialHost(host, port, (address) => connectTcp({ host: address, port }));
  let raw: Socket | undefined;
  const timer = setTimeout(() => {
    const late = new UpstreamFailure('timeout', `nothing came within ${DEADLINE_MS / 1000} s`);
    dial.cancel(late);
    raw?.destroy(late);
  }, DEADLINE_MS);
  try {
    raw = await dial.done;
    const serverName = isIP(host) === 0 ? host : undefined;
    const socket = await handshake(raw, serverName);
    const { name: cipher } = socket.getCipher();
    const tls = {
      version: socket.getProtocol() ?? 'unknown',
      cipher,
      alpn: typeof socket.alpnProtocol === 'string' ? socket.alpnProtocol : undefined,
      serverName,
    };
    return { ok: true, certificates: sentChain(socket), tls };
  } catch (reason) {
    if (!(reason instanceof Error)) throw reason;
    return { ok: false, finding: whyNot(reason) };
  } finally {
    clearTimeout(timer);
    raw?.destroy();
  }
}

function handshake(raw: Socket, servername: string | undefined): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      socket: raw,
      ALPNProtocols: ['h2', 'http/1.1'],
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(servername !== undefined && { servername }),
    });
    // In TLS 1.3 a server that misses a client certificate says so after the handshake: that is no matter here.
    socket.on('error', reject);
    raw.once('error', reject);
    socket.once('close', () =>
      reject(new UpstreamFailure('reset', 'the server closed the connection within the TLS handshake')),
    );
    socket.once('secureConnect', () => resolve(socket));
  });
}

function whyNot(reason: Error): Finding {
  const code = 'code' in reason ? String(reason.code) : '';
  if (/WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$|UNEXPECTED_MESSAGE$/u.test(code)) {
    return error(
      'no_tls',
      `the server does not speak TLS on this port (${code})`,
      "give the port of its TLS listener: Gitaly's plaintext listen_addr is another one than tls_listen_addr",
    );
  }
  if (code.startsWith('ERR_SSL')) {
    return error(
      'no_tls',
      `the TLS handshake failed (${code})`,
      'look into the log of the server; it may want another TLS version, cipher suite or a client certificate',
    );
  }
  return error(
    'unreachable',
    upstreamFailure(reason).message,
    'is the server up, the address right, and no firewall between?',
  );
}
