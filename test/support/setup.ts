import { expect } from 'vitest';

import { HEALTH_SERVING } from '../../src/commands/demo/demo-service.js';
import { Authority, type Issued } from './authority.js';
import { RawBackend, startGrpcBackend } from './backends.js';
import { GrpcClient } from './grpc-client.js';
import { ProxyProcess, type StartOptions } from './proxy-process.js';
import { temporaryDirectory } from './temporary-directory.js';

/** The listener of most tests. */
export const TLS_LISTENER = 'tls://127.0.0.1:0';

/** A proxy with one `tls://` listener in front of a recording backend. */
export interface Setup {
  readonly directory: string;
  readonly ca: Authority;
  readonly server: Issued;
  readonly backend: RawBackend;
  readonly proxy: ProxyProcess;
  /** The port of the listener; unused for a unix socket. */
  readonly port: number;
  /** The configuration that it runs with, to change and write again. */
  readonly configuration: {
    readonly tls: Readonly<Record<string, unknown>>;
    readonly listeners: readonly Readonly<Record<string, unknown>>[];
  };
}

/** Differences from the minimal configuration. */
export interface SetupOptions extends Omit<StartOptions, 'configuration'> {
  readonly tls?: Readonly<Record<string, unknown>>;
  readonly listener?: Readonly<Record<string, unknown>> & { readonly listen?: string };
  readonly more?: Readonly<Record<string, unknown>>;
}

/** Starts it; all of it ends with the test. `options` may depend on the test's CA. */
export async function startSetup(
  options: SetupOptions | ((ca: Authority) => Promise<SetupOptions> | SetupOptions) = {},
): Promise<Setup> {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const { tls, listener, more, ...start } = typeof options === 'function' ? await options(ca) : options;
  const server = await ca.server();
  const backend = await RawBackend.start();
  const configuration = {
    tls: { certificate_path: server.certificatePath, key_path: server.keyPath, ...tls },
    listeners: [{ listen: TLS_LISTENER, forward: backend.url, ...listener }],
    ...more,
  };
  const proxy = await ProxyProcess.start({ ...start, configuration });
  return {
    directory,
    ca,
    server,
    backend,
    proxy,
    port: await proxy.port(listener?.listen ?? TLS_LISTENER),
    configuration,
  };
}

/** The same in front of a gRPC server; `call` makes a health call on a connection of its own, and expects its answer. */
export async function startWithCalls(): Promise<Setup & { readonly call: () => Promise<void> }> {
  const setup = await startSetup({ listener: { forward: await startGrpcBackend() } });
  const address = await setup.proxy.address(TLS_LISTENER);
  const call = async (): Promise<void> => {
    const client = new GrpcClient(address, { ca: setup.ca.caPem });
    expect(await client.health()).toEqual(HEALTH_SERVING);
    client.close();
  };
  return { ...setup, call };
}
