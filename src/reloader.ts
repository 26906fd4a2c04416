import { RELOAD_POLL_MS } from './limits.js';
import { ProxyFailure, type Proxy } from './proxy.js';
import type { Logger } from './telemetry/logger.js';
import type { Metrics } from './telemetry/metrics.js';
import { fileSignature, watchedPaths } from './tls/file-signature.js';

/**
 * Keeps what is served equal to what is on disk: looks at the certificate files once a second, and reloads all,
 * the configuration too, when told to.
 *
 * A renewal replaces two files one after the other. So a state that does not load is only called a failure when the
 * files have not changed for a whole interval; and after a failure each look tries again, until it succeeds.
 */
export class Reloader {
  readonly #proxy: Proxy;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  #timer: NodeJS.Timeout | undefined;
  /** The files as they were when they were last loaded. */
  #loaded = '';
  /** The files as they were at the last look. */
  #seen = '';
  /** What the last reported failure said; `undefined` while all is well. */
  #failure: string | undefined;
  /** A reload of everything that was asked for and has failed so far. */
  #owesConfiguration = false;
  #stopped = false;

  constructor(proxy: Proxy, logger: Logger, metrics: Metrics) {
    this.#proxy = proxy;
    this.#logger = logger;
    this.#metrics = metrics;
  }

  /** Begins to look at the files. */
  async start(): Promise<void> {
    this.#loaded = this.#seen = await this.#signature();
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Reloads everything now; never rejects, what fails is logged and counted. */
  async reloadNow(): Promise<void> {
    this.#owesConfiguration = true;
    const seen = await this.#signature();
    await this.#reload(seen, 'report');
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.#look().then(() => this.#schedule());
    }, RELOAD_POLL_MS);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const seen = await this.#signature();
    const quiet = seen === this.#seen;
    this.#seen = seen;
    if (seen === this.#loaded && this.#failure === undefined && !this.#owesConfiguration) return;
    await this.#reload(seen, quiet ? 'report' : 'wait');
  }

  /** `wait`: a failure may be half of a renewal and is not reported yet. */
  async #reload(seen: string, onFailure: 'report' | 'wait'): Promise<void> {
    const { reloads, lastReloadSuccessful } = this.#metrics;
    try {
      await this.#proxy.reload(this.#owesConfiguration ? 'everything' : 'files');
    } catch (error) {
      if (this.#stopped || onFailure === 'wait') return;
      const reason = error instanceof ProxyFailure ? error.lines.join('; ') : String(error);
      if (reason === this.#failure) return;
      this.#failure = reason;
      reloads.inc({ result: 'failure' });
      lastReloadSuccessful.set(0);
      this.#logger.error({ error: reason }, 'reload failed; the former state is served on');
      return;
    }
    if (this.#stopped) return;
    this.#loaded = seen;
    this.#failure = undefined;
    this.#owesConfiguration = false;
    reloads.inc({ result: 'success' });
    lastReloadSuccessful.set(1);
    this.#logger.info({}, 'reloaded');
  }

  #signature(): Promise<string> {
    return fileSignature(watchedPaths(this.#proxy.state.configuration));
  }
}
