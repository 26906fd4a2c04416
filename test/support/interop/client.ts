import { type Client, Server, ServerCredentials } from '@grpc/grpc-js';
import { onTestFinished } from 'vitest';

import { startBackchannelBridge } from '../backchannel.js';
import { tcpClient, tlsClient } from '../clients.js';
import { type ClientTls, libraryClient } from '../grpc-client.js';
import { interopCases } from './cases.js';

/** What a client speaks behind the TLS handshake, if there is one. */
export const PROTOCOLS = ['http2', 'backchannel'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** Bounds how long a connection may take; it decides nothing but how long a hang lasts. */
const PATIENCE_MS = 30_000;

/**
 * Runs interoperability cases by grpc-js, each on a connection of its own, whichever fail: what failed, and why. `ca` for
 * `tls://` servers, which are called `localhost`.
 */
export async function failuresOfGrpcJs(
  server: URL,
  protocol: Protocol,
  cases: readonly string[],
  ca?: string,
): Promise<string[]> {
  const failures: string[] = [];
  const connect = await connector(server, protocol, ca === undefined ? undefined : { ca });
  for (const name of cases) {
    const client = connect();
    await run(name, client).catch((error: unknown) => failures.push(`${name}: ${String(error)}`));
    client.close();
  }
  return failures;
}

async function run(name: string, client: Client): Promise<void> {
  const test = interopCases[name];
  if (!test) throw new Error('there is no such case');
  // One that is closed while it connects leaves its connection open (grpc-js 1.14).
  await new Promise<void>((resolve, reject) =>
    client.waitForReady(Date.now() + PATIENCE_MS, (error) => (error ? reject(error) : resolve())),
  );
  await test(client);
}

async function connector(server: URL, protocol: Protocol, tls: ClientTls | undefined) {
  if (protocol === 'http2') return () => libraryClient(server.host, tls);
  const reverse = new Server();
  onTestFinished(() => reverse.forceShutdown());
  const port = Number(server.port);
  const bridge = await startBackchannelBridge(
    () => (tls ? tlsClient(port, { ca: tls.ca }) : tcpClient(port)),
    reverse.createConnectionInjector(ServerCredentials.createInsecure()),
  );
  return () => libraryClient(`127.0.0.1:${bridge}`, undefined);
}
