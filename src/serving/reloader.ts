import { FILE_DEADLINE_MS, RELOAD_POLL_MS } from '../limits.js';
import { ProxyFailure, type Proxy } from './proxy.js';
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
 * Keeps what is served equal to what is on disk: looks at the certificate files once a second, and reloads all,
 * the configuration too, when told to.
 *
 * A renewal replaces two files one after the other. So a state that does not load is only called a failure when the
 * files have not changed for a whole interval; and after a failure each look tries again, until it succeeds. While
 * it is the configuration that fails, certificates are still renewed under the one in force.
 */
export class Reloader {
  readonly #proxy: Pick<Proxy, 'state' | 'reload'>;
  readonly #logger: Pick<Logger, 'log'>;
  readonly #metrics: Metrics;
  #timer: NodeJS.Timeout | undefined;
  /** The files as they were at the last look. */
  #seen = '';
  /** What the last reported failure of each kind said; empty while all is well. */
  readonly #failures = new Map<What, string>();
  #stopped = false;

  constructor(proxy: Pick<Proxy, 'state' | 'reload'>, logger: Pick<Logger, 'log'>, metrics: Metrics) {
    this.#proxy = proxy;
    this.#logger = logger;
    this.#metrics = metrics;
  }

  /** Begins to look at the files. */
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

  /** Reloads everything now; never rejects, what fails is logged and counted. */
  async reloadNow(): Promise<void> {
    await this.#reload('everything', 'answer');
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.#look()
        // A fault here must not end the renewal of certificates.
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
    // A new certificate that was not yet valid when it was read is used as soon as it is.
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
      // No renewal takes this long between its two files, so a file system hangs.
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
