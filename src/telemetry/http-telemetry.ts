import type { Address } from '../config/model.js';
import type { ExchangeReport, HttpEvents } from '../http/http-events.js';
import type { EventId, EventFields } from './events.js';
import type { Logger } from './logger.js';
import { MAX_LOGGED } from '../limits.js';
import { cut } from '../printable.js';
import type { Metrics } from './metrics.js';
import type { UnauthenticatedLines } from './unauthenticated-lines.js';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

/** A request's method; label `method`. */
export type MethodLabel = (typeof METHODS)[number] | 'other';

const CODE_CLASSES = ['1xx', '2xx', '3xx', '4xx', '5xx'] as const;

/** The class of a response's status; label `code_class`. `none`: no response began. */
export type CodeClass = (typeof CODE_CLASSES)[number] | 'none' | 'other';

/** The events at the end of a request, which have the same fields. */
type RequestEvent = Extract<EventId, `http_request_${string}`>;

/** Turns the request reports of one listener into metrics and log lines. */
export class HttpTelemetry implements HttpEvents {
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #lines: UnauthenticatedLines;
  readonly #listener: string;
  readonly #upstream: string;

  constructor(
    pair: { readonly listen: Address; readonly upstream: Address },
    metrics: Metrics,
    logger: Logger,
    lines: UnauthenticatedLines,
  ) {
    this.#metrics = metrics;
    this.#logger = logger;
    this.#lines = lines;
    this.#listener = pair.listen.url;
    this.#upstream = pair.upstream.url;
    metrics.httpRequestsInFlight.inc({ listener: this.#listener }, 0);
  }

  requestBegan(): void {
    this.#metrics.httpRequestsInFlight.inc({ listener: this.#listener });
  }

  requestEnded(report: ExchangeReport): void {
    const listener = this.#listener;
    const { refusal, fault, status } = report;
    const method = methodLabel(report);
    this.#metrics.httpRequestsInFlight.dec({ listener });
    this.#metrics.httpRequests.inc({ listener, code_class: codeClass(status), method });
    this.#metrics.httpRequestSeconds.observe({ listener }, report.durationMs / 1000);
    if (refusal !== undefined) this.#metrics.httpRequestsRefused.inc({ listener, reason: refusal });
    if (fault !== undefined) this.#metrics.httpUpstreamFailures.inc({ listener, reason: fault });
    const event = eventOf(report);
    if (!this.#logger.isEnabled(event, {})) return;
    const detail = refusal ?? fault ?? codeClass(status);
    if (report.isAuthenticated || this.#lines.admits('request', detail, report.peerAddress))
      this.#logger.log(event, this.#fields(report));
  }

  #fields(report: ExchangeReport): EventFields<RequestEvent> {
    return {
      listener: this.#listener,
      upstream: this.#upstream,
      'peer.address': report.peerAddress,
      'peer.identity': report.identity,
      protocol: report.protocol,
      'http.method': report.method === '' ? undefined : cut(report.method, MAX_LOGGED.method),
      'http.path': report.path === undefined ? undefined : cut(report.path, MAX_LOGGED.path),
      'http.status': report.status,
      'http.ended_by': report.endedBy,
      'http.refusal': report.refusal,
      'http.upstream_failure': report.fault,
      'http.time_ms': Math.round(report.durationMs * 1000) / 1000,
      'http.request.payload_bytes': report.requestBytes,
      'http.response.payload_bytes': report.responseBytes,
      correlation_id: report.correlationId,
      error: report.detail === '' ? undefined : cut(report.detail, MAX_LOGGED.detail),
    };
  }
}

function methodLabel({ method }: ExchangeReport): MethodLabel {
  return METHODS.find((known) => known === method) ?? 'other';
}

function codeClass(status: number | undefined): CodeClass {
  return status === undefined ? 'none' : (CODE_CLASSES[Math.floor(status / 100) - 1] ?? 'other');
}

function eventOf({ status, refusal, fault, endedBy }: ExchangeReport): RequestEvent {
  if (fault !== undefined) return 'http_request_failed';
  if (refusal !== undefined) return 'http_request_refused';
  if (endedBy === 'client') return 'http_request_canceled';
  if (status === undefined || endedBy === 'proxy') return 'http_request_aborted';
  return 'http_request_finished';
}
