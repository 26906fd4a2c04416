import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';

import { onTestFinished } from 'vitest';

/** RFC 9113 section 3.4, with the empty SETTINGS that follows it. */
export const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0', 'latin1');

/** The magic, and a yamux header that opens stream 1. */
export const BACKCHANNEL_PREFACE = Buffer.from('backchannel\0\u0001\0\u0001\0\0\0\u0001\0\0\0\0', 'latin1');

/** How a connection ended, and all that had come by then. */
export interface Ending {
  readonly kind: 'end' | 'reset';
  /** Node's code of the error, if it was one. */
  readonly code: string | undefined;
  readonly received: Buffer;
}

/** Reads a connection to its end. */
export function readToEnd(socket: Socket): Promise<Ending> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    const settle = (kind: Ending['kind'], error?: Error): void => {
      const code = error && 'code' in error ? String(error.code) : undefined;
      resolve({ kind, code, received: Buffer.concat(chunks) });
    };
    socket.once('end', () => settle('end'));
    socket.once('error', (error) => settle('reset', error));
    socket.once('close', () => settle('reset'));
  });
}

/** A plaintext client; it is destroyed with the test. */
export async function tcpClient(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connectTcp({ host, port, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.on('error', noteError);
  return socket;
}

/** A plaintext client on a unix socket; it is destroyed with the test. */
export async function unixClient(path: string): Promise<Socket> {
  const socket = connectTcp({ path, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  socket.on('error', noteError);
  return socket;
}

/** The versions of TLS that the proxy supports. */
export const TLS_VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

/** Options of a client that supports only this version. */
export function speaking(version: (typeof TLS_VERSIONS)[number]): ConnectionOptions {
  return { minVersion: version, maxVersion: version };
}

/**
 * A TLS client that offers ALPN h2, asks for `localhost` and trusts the CA in `ca`; after its handshake. Rejects
 * with the TLS library's error. It is destroyed with the test.
 */
export async function tlsClient(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  // Node takes allowHalfOpen here; its types do not know.
  const connection: ConnectionOptions & { allowHalfOpen: boolean } = {
    host: '127.0.0.1',
    port,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
    allowHalfOpen: true,
    ...options,
  };
  const socket = connectTls(connection);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'secureConnect');
  socket.on('error', noteError);
  return socket;
}

/** Returns the next session ticket that the server sends. */
export async function sessionOf(client: TLSSocket): Promise<Buffer> {
  if (client.getProtocol() === 'TLSv1.2') return client.getSession() ?? Buffer.alloc(0);
  const [session] = (await once(client.resume(), 'session')) as [Buffer];
  // Node loses what is written from within that event.
  await setImmediate();
  return session;
}

/** A test looks at the error with `readToEnd`, or does not care; without a listener it would end the run. */
function noteError(): void {
  // See above.
}
