import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ListenOptions, Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

import { formatHostPort } from '../config/host-port.js';
import type { HostPort } from '../config/model.js';
import { bindHost, portOf } from '../process/bind-host.js';
import { socketEnd, type SocketEnd } from '../connection/peer-address.js';
import {
  ADMIN_ANSWER_MS,
  ADMIN_KEEP_ALIVE_MS,
  ADMIN_REFUSAL_LOG_MS,
  ADMIN_REQUEST_MS,
  INHERITED_BACKLOG,
  MAX_LOGGED,
  ADMIN_ENTRIES_PER_TURN,
  ADMIN_PAUSE_MS_MAX,
  ADMIN_PAUSE_RATIO,
} from '../limits.js';
import { acceptedFormat, type MetricsFormat } from './accepted-format.js';
import { isForeignOrigin, KnownHosts } from './known-hosts.js';
import type { TrafficReport } from '../policy/observed-traffic.js';
import { readLimit, statusPage, type OpenKind, type OpenPage } from '../telemetry/open-pages.js';
import { Visitors } from './visitors.js';

/**
 * Generates one page at a time, with a pause after each, so that clients of the admin port never take all of the event loop
 * from the traffic. Requests that wait for the same page share one copy, which is generated after the last of them arrived.
 */
export class PageQueue<Page> {
  readonly #waiting = new Map<string, Promise<Page>>();
  #last: Promise<unknown> = Promise.resolve();

  /** Rejects as `make` does. `key` identifies the page. */
  page(key: string, make: () => Promise<Page>): Promise<Page> {
    const waiting = this.#waiting.get(key);
    if (waiting) return waiting;
    const page = this.#last.then(() => {
      this.#waiting.delete(key);
      return make();
    });
    this.#waiting.set(key, page);
    this.#last = this.#last.then(() => this.#pauseAfter(page));
    return page;
  }

  async #pauseAfter(page: Promise<Page>): Promise<void> {
    const startedAtMs = performance.now();
    await page.catch(() => undefined);
    const pauseMs = ADMIN_PAUSE_RATIO * (performance.now() - startedAtMs);
    await delay(Math.min(pauseMs, ADMIN_PAUSE_MS_MAX), undefined, { ref: false });
  }
}

/** Requests that were refused because of their `Host` or `Origin`. */
interface AdminRefusal {
  /** The reason of the last refusal. */
  readonly error: string;
  readonly peer: SocketEnd | undefined;
  /** The number of refusals since the last report. */
  readonly count: number;
}

/** Whether the proxy should be sent traffic; `reasons`: why not, one per line. */
export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

/** The content of the admin port. */
export interface AdminSource {
  expose(format: MetricsFormat): Promise<{ contentType: string; body: string }>;
  readiness(): Readiness;
  /** The oldest open connections or calls, at most `limit`. */
  open(kind: OpenKind, limit: number): Promise<OpenPage>;
  /** The observed traffic, at most `limit` groups of clients. */
  traffic(limit: number): Promise<TrafficReport>;
  /** For the log; called periodically. */
  refused(refusal: AdminRefusal): void;
}

/** A complete answer. */
interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

const TEXT = 'text/plain; charset=utf-8';

interface InheritedSocket {
  readonly fd: number;
  readonly backlog: number;
}

/** The operator's port: `/metrics`, `/-/liveness`, `/-/readiness`, `/-/connections`, `/-/rpcs`, `/-/policy`. */
export class AdminServer {
  /** `http://host:port` as bound. */
  readonly url: string;
  /** Whether another process has bound the socket and shares it. */
  readonly isInherited: boolean;
  /** One per address of a name, on the same port. */
  readonly #servers: readonly Server[];
  readonly #source: AdminSource;
  readonly #visitors = new Visitors();
  readonly #pages = new PageQueue<Answer>();
  #knownHosts = new KnownHosts([]);
  #refusals = 0;
  #refusalsLoggedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(servers: readonly Server[], source: AdminSource, host: string, isInherited: boolean) {
    this.#servers = servers;
    this.#source = source;
    this.isInherited = isInherited;
    const [first] = servers;
    this.url = `http://${formatHostPort({ host, port: first ? portOf(first) : 0 })}`;
    for (const server of servers) {
      server.on('connection', (socket: Socket) => this.#visitors.enter(socket));
      server.on('request', (request: IncomingMessage, response: ServerResponse) =>
        this.#visitors.serve(request.socket, response, () => this.#serve(request, response)),
      );
    }
  }

  /**
   * Binds the address, or every address of a name, or uses descriptors that are bound to it, and begins to answer.
   * @throws the system's error, `EADDRINUSE` among them
   */
  static async listen(
    address: HostPort,
    source: AdminSource,
    inherited: readonly number[],
  ): Promise<AdminServer> {
    const bind = (options: ListenOptions | InheritedSocket): Promise<Server> => {
      const server = createServer({
        requestTimeout: ADMIN_REQUEST_MS,
        headersTimeout: ADMIN_REQUEST_MS,
        keepAliveTimeout: ADMIN_KEEP_ALIVE_MS,
      });
      // The timeout between bytes; `Visitors` limits the time of a whole answer.
      server.setTimeout(ADMIN_ANSWER_MS);
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
    return new AdminServer(servers, source, address.host, inherited.length > 0);
  }

  /** From now on, the server answers for these hosts, IP addresses and `localhost`. */
  answerTo(hosts: readonly string[]): void {
    this.#knownHosts = new KnownHosts(hosts);
  }

  /**
   * The process drains. If another process can have the same socket, that one answers from now on: scrapes and probes
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

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, contentType, body, headers } = await this.#answer(request);
    response.writeHead(status, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    });
    response.end(body);
  }

  #answer(request: IncomingMessage): Promise<Answer> {
    const target = readTarget(request);
    const refusal = this.#reasonToRefuse(request, target);
    if (refusal) return Promise.resolve(refusal);
    const query = new URLSearchParams(target?.query);
    switch (target?.path) {
      case '/metrics':
        return this.#metrics(acceptedFormat(request.headers.accept));
      case '/-/liveness':
        return Promise.resolve(text(200, 'alive'));
      case '/-/readiness': {
        const { ready, reasons } = this.#source.readiness();
        return Promise.resolve(ready ? text(200, 'ready') : text(503, reasons.join('\n')));
      }
      case '/-/connections':
        return this.#statusPage('connections', query);
      case '/-/rpcs':
        return this.#statusPage('rpcs', query);
      case '/-/policy':
        return this.#trafficPage(query);
      default:
        return Promise.resolve(
          text(404, 'there are /metrics, /-/liveness, /-/readiness, /-/connections, /-/rpcs and /-/policy'),
        );
    }
  }

  #metrics(format: MetricsFormat): Promise<Answer> {
    return this.#pages.page(format, async () => {
      const { contentType, body } = await this.#source.expose(format);
      return { status: 200, contentType, body: Buffer.from(body), headers: { vary: 'accept' } };
    });
  }

  #statusPage(kind: OpenKind, query: URLSearchParams): Promise<Answer> {
    const [state, limit] = [query.get('state'), query.get('limit')];
    return this.#pages.page(JSON.stringify([kind, state, limit]), async () => {
      const page = await statusPage(kind, query, (...what) => this.#source.open(...what));
      if ('refusal' in page) return text(400, page.refusal);
      return json(await writeJson(page.content, ADMIN_ENTRIES_PER_TURN));
    });
  }

  #trafficPage(query: URLSearchParams): Promise<Answer> {
    return this.#pages.page(JSON.stringify(['policy', query.get('limit')]), async () => {
      const limit = readLimit(query);
      if (typeof limit === 'string') return text(400, limit);
      const { clients, ...report } = await this.#source.traffic(limit);
      // A group of clients may have hundreds of RPCs.
      return json(await writeJson({ ...report, shown: clients.length, clients }, 1));
    });
  }

  #reasonToRefuse(request: IncomingMessage, target: Target | undefined): Answer | undefined {
    const { origin } = request.headers;
    if (!target) return text(400, 'the request target is malformed');
    const { host } = target;
    if (!this.#knownHosts.has(host)) {
      this.#logRefusal(request, `the request names the host ${shown(host)}, which is not known`);
      return text(421, `unknown host ${shown(host)}: use an IP address, or add the name to admin_hosts`);
    }
    if (isForeignOrigin(origin, host)) {
      this.#logRefusal(request, `a web page of the origin ${shown(origin)} made the request`);
      return text(403, 'requests from web pages of other origins are refused');
    }
    if (request.method === 'GET' || request.method === 'HEAD') return undefined;
    return { ...text(405, 'only GET and HEAD'), headers: { allow: 'GET, HEAD' } };
  }

  /** A flood of refusals is logged as one line per interval. */
  #logRefusal({ socket }: IncomingMessage, error: string): void {
    this.#refusals++;
    const nowMs = performance.now();
    if (nowMs - this.#refusalsLoggedAtMs < ADMIN_REFUSAL_LOG_MS) return;
    this.#refusalsLoggedAtMs = nowMs;
    const peer = socketEnd(socket.remoteAddress, socket.remotePort);
    this.#source.refused({ error, peer, count: this.#refusals });
    this.#refusals = 0;
  }
}

/** The parsed target of a request. */
interface Target {
  readonly path: string;
  readonly query: string | undefined;
  readonly host: string | undefined;
}

/**
 * Reads the target, in origin form or in absolute form, whose host replaces `Host` (RFC 9112 section 3.2.2). Returns
 * `undefined` if it is malformed or names several hosts.
 */
function readTarget({ url = '', headers, headersDistinct }: IncomingMessage): Target | undefined {
  if ((headersDistinct['host']?.length ?? 0) > 1) return undefined;
  const [, authority, rest] = /^https?:\/\/([^/?#]*)(.*)$/iu.exec(url) ?? [];
  const target = rest ?? url;
  const origin = target.startsWith('/') ? target : `/${target}`;
  if (rest === undefined && !url.startsWith('/')) return undefined;
  const [path = '', query] = origin.split('?', 2);
  return { path, query, host: authority ?? headers.host };
}

/** Formats an external text as JSON, so that it is one line, and truncates it. */
function shown(foreign: string | undefined): string {
  return JSON.stringify((foreign ?? '').slice(0, MAX_LOGGED.serverName));
}

function text(status: number, line: string): Answer {
  return { status, contentType: TEXT, body: `${line}\n` };
}

function json(body: Buffer): Answer {
  return { status: 200, contentType: 'application/json; charset=utf-8', body };
}

/**
 * JSON.stringify(content, undefined, 2) and a line feed, but yields to the event loop each time it has written `perTurn` elements of
 * its arrays.
 */
export async function writeJson(content: object, perTurn: number): Promise<Buffer> {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(content) as [string, unknown][]) {
    const key = `${parts.length === 0 ? '{' : ','}\n  ${JSON.stringify(name)}: `;
    if (Array.isArray(value) && value.length > 0) parts.push(key, await writeArray(value, perTurn));
    else parts.push(key, JSON.stringify(value, undefined, 2));
  }
  return Buffer.from(`${parts.join('')}\n}\n`);
}

async function writeArray(elements: readonly unknown[], perTurn: number): Promise<string> {
  const written: string[] = [];
  for (const element of elements) {
    written.push(`\n    ${JSON.stringify(element, undefined, 2).replaceAll('\n', '\n    ')}`);
    if (written.length % perTurn === 0) await nextTurn();
  }
  return `[${written.join(',')}\n  ]`;
}
