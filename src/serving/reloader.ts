import { FILE_DEADLINE_MS, RELOAD_POLL_MS } from '../limits.js';
import { ProxyFailure } from './proxy-failure.js';
import type { Proxy } from './proxy.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics } from '../telemetry/metrics.js';
import { fileSignature, watchedPaths } from '../x509/file-signature.js';

type What = Parameters<Proxy['reload']>[0];

/**
 * `answer`: an operator requested the reload, and each failure is logged. `report`: a failure is logged once. `wait`: the
 * change may be an incomplete renewal and is not logged yet.
 */
type OnFailure = 'answer' | 'report' | 'wait';

/**
 * Applies changes on disk. Polls the certificate files every `RELOAD_POLL_MS` and reloads them when they change. Reloads
 * everything, including the configuration, on request.
 *
 * A renewal replaces two files one after the other. Therefore a state that does not load is reported as a failure only if the
 * files have not changed for one polling interval. After a failure every poll retries until it succeeds. While the new
 * configuration is invalid, certificates are still renewed under the configuration in effect.
 */
export class Reloader {
  readonly #proxy: Pick<Proxy, 'state' | 'reload'>;
  readonly #logger: Pick<Logger, 'log'>;
  readonly #metrics: Metrics;
  #timer: NodeJS.Timeout | undefined;
  /** The file signature at the last poll. */
  #seen = '';
  /** The message of the last reported failure of each kind; empty if the last reloads succeeded. */
  readonly #failures = new Map<What, string>();
  #stopped = false;

  constructor(proxy: Pick<Proxy, 'state' | 'reload'>, logger: Pick<Logger, 'log'>, metrics: Metrics) {
    this.#proxy = proxy;
    this.#logger = logger;
    this.#metrics = metrics;
  }

  /** Starts polling the files. */
  start(): void {
    this.#seen = this.#proxy.state.signature;
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Whether the files differ from the state in effect: the last reload failed, or certificates in the files are out of date. */
  get failing(): boolean {
    return this.#failures.size > 0 || this.#proxy.state.kept.length > 0;
  }

  /** Reloads everything now. Never rejects: a failure is logged and counted. */
  async reloadNow(): Promise<void> {
    await this.#reload('everything', 'answer');
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.#look()
        // An internal error must not stop the renewal of certificates.
        .catch((error: unknown) => this.#fail('files', String(error), 'report'))
        .finally(() => this.#schedule());
    }, RELOAD_POLL_MS);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const seen = await fileSignature(watchedPaths(this.#proxy.state.configuration));
    const onFailure = seen === this.#seen ? 'report' : 'wait';
    this.#seen = seen;
    if (this.#failures.has('everything')) await this.#reload('everything', onFailure);
    const { signature, kept } = this.#proxy.state;
    // A certificate that was not yet valid when it was read is applied as soon as it becomes valid.
    const isDue = kept.some(({ replacedFrom }) => replacedFrom !== undefined && replacedFrom <= new Date());
    if (seen !== signature || isDue || this.#failures.has('files')) await this.#reload('files', onFailure);
  }

  async #reload(what: What, onFailure: OnFailure): Promise<void> {
    const { reloads, lastReloadSuccessful } = this.#metrics;
    const startedAtMs = performance.now();
    try {
      await this.#proxy.reload(what);
    } catch (error) {
      const reason = error instanceof ProxyFailure ? error.lines.join('; ') : String(error);
      // A renewal never takes this long between its two files, so the file system must be hanging.
      const hasHung = performance.now() - startedAtMs >= FILE_DEADLINE_MS;
      this.#fail(what, reason, hasHung && onFailure === 'wait' ? 'report' : onFailure);
      return;
    }
    if (this.#stopped) return;
    if (what === 'everything') this.#failures.clear();
    else this.#failures.delete('files');
    reloads.inc({ result: 'success' });
    lastReloadSuccessful.set(this.failing ? 0 : 1);
    this.#logger.log('reloaded', {});
  }

  #fail(what: What, reason: string, onFailure: OnFailure): void {
    if (this.#stopped || onFailure === 'wait') return;
    if (onFailure === 'report' && reason === this.#failures.get(what)) return;
    this.#failures.set(what, reason);
    this.#metrics.reloads.inc({ result: 'failure' });
    this.#metrics.lastReloadSuccessful.set(0);
    this.#logger.log('reload_failed', { error: reason });
  }
}
