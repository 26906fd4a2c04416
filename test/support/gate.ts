import type { RequestOptions } from 'node:https';

import { Authority, type Issued } from './authority.js';
import { HttpBackend } from './http-backend.js';
import { ask, type HttpAnswer } from './http-clients.js';
import { ProxyProcess, type StartOptions } from './proxy-process.js';
import { temporaryDirectory } from './temporary-directory.js';

/** The listeners of these tests. */
export const GATE = 'https://127.0.0.1:0';
export const PLAIN = 'http://127.0.0.1:0';

/** A path that a gate lets through. */
export const ALLOWED = '/api/v4/internal/allowed';

/** A proxy with an `https://` listener, or another of HTTP, in front of a backend. */
export interface Gate {
  readonly directory: string;
  readonly ca: Authority;
  readonly server: Issued;
  readonly backend: HttpBackend;
  readonly proxy: ProxyProcess;
  readonly port: number;
  /** The listener as clients reach it, without a path. */
  readonly url: string;
  /** The configuration that it runs with, to change and write again. */
  readonly configuration: {
    readonly tls: Readonly<Record<string, unknown>>;
    readonly listeners: readonly Readonly<Record<string, unknown>>[];
  };
  /** Makes a request and reads its answer; the client trusts the CA. */
  ask(path: string, options?: RequestOptions, body?: string): Promise<HttpAnswer>;
  /** The end of a good test: `ProxyProcess.endsWithNothingLeaked`, connections that are kept to upstream set aside. */
  endsWithNothingLeaked(): Promise<void>;
}

/** For tests that count connections to upstream: each worker keeps its own. */
export const ONE_WORKER = { workers: 1 };

/** Differences from the minimal configuration. */
export interface GateOptions extends Omit<StartOptions, 'configuration'> {
  readonly tls?: Readonly<Record<string, unknown>>;
  readonly listener?: Readonly<Record<string, unknown>> & { readonly listen?: string };
  readonly more?: Readonly<Record<string, unknown>>;
  readonly backend?: HttpBackend;
}

/** Starts it; all of it ends with the test. `options` may depend on the test's CA. */
export async function startGate(
  options: GateOptions | ((ca: Authority) => Promise<GateOptions> | GateOptions) = {},
): Promise<Gate> {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const given = typeof options === 'function' ? await options(ca) : options;
  const { tls, listener, more, backend = await HttpBackend.start(), ...start } = given;
  const server = await ca.server({ usages: ['serverAuth', 'clientAuth'] });
  const listen = listener?.listen ?? GATE;
  const configuration = {
    tls: { certificate_path: server.certificatePath, key_path: server.keyPath, ...tls },
    listeners: [{ listen, forward: backend.url, ...listener }],
    ...more,
  };
  const proxy = await ProxyProcess.start({ ...start, configuration });
  const port = await proxy.port(listen);
  const url = `${listen.startsWith('https:') ? 'https' : 'http'}://127.0.0.1:${port}`;
  return {
    directory,
    ca,
    server,
    backend,
    proxy,
    port,
    url,
    configuration,
    ask: (path, requestOptions, body) => ask(url, { ca: ca.caPem, path, ...requestOptions }, body),
    endsWithNothingLeaked: () => {
      backend.closeConnections();
      return proxy.endsWithNothingLeaked();
    },
  };
}

/** The certificate and key that a client presents. */
export function presenting(issued: Issued): { readonly cert: string; readonly key: string } {
  return { cert: issued.certificatePem, key: issued.keyPem };
}

/** The settings of a gate that wants client certificates. */
export function requiring(ca: Authority, mode: 'require' | 'optional' = 'require'): GateOptions {
  return { tls: { client_auth: mode, client_ca_path: ca.caPath } };
}
