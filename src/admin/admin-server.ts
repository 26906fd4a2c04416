import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ListenOptions } from 'node:net';

import { formatHostPort } from '../config/host-port.js';
import type { HostPort } from '../config/model.js';
import { bindHost, portOf } from '../connection/bind-host.js';
import { INHERITED_BACKLOG, MAX_ADMIN_CONNECTIONS } from '../limits.js';
import { statusPage, type OpenKind, type OpenPage, type StatusPage } from './open.js';

/** Whether the proxy should be sent traffic; `reasons` says why not, one a line. */
export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

/** What the admin port shows. */
export interface AdminSource {
  expose(format: 'prometheus' | 'openmetrics'): Promise<{ contentType: string; body: string }>;
  readiness(): Readiness;
  /** The oldest open connections or calls, at most `limit`. */
  open(kind: OpenKind, limit: number): Promise<OpenPage>;
}

/** A scraper that takes its answer slower than this is let go; the answer is one small page. */
const SLOW_READER_MS = 30_000;

interface InheritedSocket {
  readonly fd: number;
  readonly backlog: number;
}

/** The operator's port: `/metrics`, `/-/liveness`, `/-/readiness`, `/-/connections`, `/-/rpcs`. */
export class AdminServer {
  /** `http://host:port` as bound. */
  readonly url: string;
  /** Whether somebody else has bound it, and has it too. */
  readonly isInherited: boolean;
  /** One per address of a name, on the same port. */
  readonly #servers: readonly Server[];

  private constructor(servers: readonly Server[], host: string, isInherited: boolean) {
    this.#servers = servers;
    this.isInherited = isInherited;
    const [first] = servers;
    this.url = `http://${formatHostPort({ host, port: first ? portOf(first) : 0 })}`;
  }

  /**
   * Binds the address, each one of a name, or takes the descriptors of sockets that are bound to it, and begins to answer.
   * @throws the system's error, `EADDRINUSE` among them
   */
  static async listen(
    address: HostPort,
    source: AdminSource,
    inherited: readonly number[],
  ): Promise<AdminServer> {
    const bind = (options: ListenOptions | InheritedSocket): Promise<Server> => {
      const server = createServer(
        { requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 60_000 },
        (request, response) => {
          answer(request, response, source).catch((error: unknown) => {
            response.destroy(error instanceof Error ? error : undefined);
          });
        },
      );
      server.maxConnections = MAX_ADMIN_CONNECTIONS;
      server.setTimeout(SLOW_READER_MS);
      return new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(options, () => {
          server.off('error', reject);
          resolve(server);
        });
      });
    };
    const servers =
      inherited.length > 0
        ? await Promise.all(inherited.map((fd) => bind({ fd, backlog: INHERITED_BACKLOG })))
        : (await bindHost(address, bind)).servers;
    return new AdminServer(servers, address.host, inherited.length > 0);
  }

  /**
   * The process drains. Where another one may have the same socket, that one answers from now on: scrapes and probes
   * are for the process that serves.
   */
  drain(): void {
    if (this.isInherited) for (const server of this.#servers) server.close();
  }

  /** Answers no more. */
  close(): void {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  source: AdminSource,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    send(response, 405, 'text/plain; charset=utf-8', 'only GET and HEAD\n');
    return;
  }
  // A scraper may add a query to any of them; two pages have one of their own.
  const [path, query] = (request.url ?? '').split('?', 2);
  const searchParams = new URLSearchParams(query);
  switch (path) {
    case '/metrics': {
      const format = /\bapplication\/openmetrics-text\b/.test(request.headers.accept ?? '')
        ? 'openmetrics'
        : 'prometheus';
      const { contentType, body } = await source.expose(format);
      send(response, 200, contentType, body);
      return;
    }
    case '/-/liveness':
      send(response, 200, 'text/plain; charset=utf-8', 'alive\n');
      return;
    case '/-/readiness': {
      const { ready, reasons } = source.readiness();
      send(
        response,
        ready ? 200 : 503,
        'text/plain; charset=utf-8',
        ready ? 'ready\n' : `${reasons.join('\n')}\n`,
      );
      return;
    }
    case '/-/connections':
    case '/-/rpcs': {
      const kind = path === '/-/rpcs' ? 'rpcs' : 'connections';
      sendPage(response, await statusPage(kind, searchParams, (...what) => source.open(...what)));
      return;
    }
    default: {
      const paths = '/metrics, /-/liveness, /-/readiness, /-/connections and /-/rpcs';
      send(response, 404, 'text/plain; charset=utf-8', `there are ${paths}\n`);
    }
  }
}

function sendPage(response: ServerResponse, page: StatusPage): void {
  if ('refusal' in page) send(response, 400, 'text/plain; charset=utf-8', `${page.refusal}\n`);
  else
    send(response, 200, 'application/json; charset=utf-8', `${JSON.stringify(page.content, undefined, 2)}\n`);
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  response.end(body);
}
