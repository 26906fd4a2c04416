import { RELOAD_POLL_MS } from '../limits.js';
import type { Snapshot } from '../telemetry/metrics.js';
import type { Logger } from '../telemetry/logger.js';
import { dateFault, describeDateFault, type Dated, type DateFault } from '../x509/dated.js';

/** A certificate or CRL of a listener. */
export interface ListenerDated {
  /** The `listen` URL of the listener. */
  readonly listener: string;
  readonly dated: Dated;
}

/** Logs expired or not yet valid certificates and CRLs, when they are applied and whenever their validity changes. */
export class ValidityWatch {
  readonly #logger: Logger;
  readonly #now: () => Date;
  #items: (ListenerDated & { fault: DateFault | undefined })[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(logger: Logger, now: () => Date = () => new Date()) {
    this.#logger = logger;
    this.#now = now;
    this.#timer = setInterval(() => this.check(), RELOAD_POLL_MS).unref();
  }

  /** Watches these certificates and CRLs from now on. */
  configure(items: readonly ListenerDated[]): void {
    this.#items = items.map((item) => ({ ...item, fault: undefined }));
    this.check();
  }

  /** Logs changes since the previous call. */
  check(): void {
    const now = this.#now();
    for (const item of this.#items) {
      const { listener, dated } = item;
      const fault = dateFault(dated, now);
      if (fault === item.fault) continue;
      item.fault = fault;
      const fields = { listener, role: dated.role, file: dated.setting.path };
      if (fault === undefined) this.#logger.log('certificate_valid_again', fields);
      else this.#logger.log(EVENTS[fault], { ...describeDateFault(dated, fault), ...fields });
    }
  }

  /** The number of expired or not yet valid certificates and CRLs, per listener and role. */
  outOfDate(): NonNullable<Snapshot['outOfDate']> {
    const now = this.#now();
    const counts = new Map<string, { listener: string; role: Dated['role']; count: number }>();
    for (const { listener, dated } of this.#items) {
      const key = `${listener} ${dated.role}`;
      const entry = counts.get(key) ?? { listener, role: dated.role, count: 0 };
      if (dateFault(dated, now) !== undefined) entry.count++;
      counts.set(key, entry);
    }
    return [...counts.values()];
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

const EVENTS = {
  expired: 'certificate_expired',
  not_yet_valid: 'certificate_not_yet_valid',
} as const satisfies Readonly<Record<DateFault, string>>;
