import type { AuditSettings, Problem } from '../config/model.js';
import { AUDIT_FAILURE_LOG_MS, AUDIT_HEAD_MS } from '../limits.js';
import {
  AuditFile,
  closeAuditFile,
  isSameFile,
  openAuditFile,
  type OpenAuditFile,
} from '../telemetry/audit/audit-file.js';
import { AuditTrail } from '../telemetry/audit/audit-trail.js';
import { newChain, type ChainHead } from '../telemetry/audit/chain.js';
import { batchLines, type LogSink } from '../telemetry/log-sink.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics } from '../telemetry/metrics.js';
import { describeFileError } from '../x509/pem-files.js';
import type { PreparedPlan } from './traffic.js';

/** An audit log that is being written. */
interface Open {
  readonly file: AuditFile;
  readonly sink: LogSink;
}

/** The audit log of the process that writes it, which is the primary one if there are workers. */
export class AuditLog {
  readonly trail: AuditTrail;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  #open: Open | undefined;
  #failureLoggedAtMs = Number.NEGATIVE_INFINITY;
  #headLoggedAtMs = 0;

  constructor(logger: Logger, metrics: Metrics) {
    this.#logger = logger;
    this.#metrics = metrics;
    this.trail = new AuditTrail((lines) => metrics.auditLinesDropped.inc(lines));
  }

  /**
   * Opens the file of a configuration unless it is open already. Returns the problem if that is not possible: then nothing has
   * changed.
   */
  async prepare(settings: AuditSettings | undefined): Promise<PreparedPlan | Problem> {
    const { path, key } = settings?.log ?? { path: undefined, key: [] };
    if (path === undefined || path === this.#open?.file.file.path)
      return { publish: () => this.#configure(settings), discard: () => undefined };
    const opened = await tryToOpen(path);
    if (typeof opened === 'string') return { severity: 'error', key, message: opened, value: path };
    return {
      publish: () => {
        this.#continueIn(opened);
        this.#configure(settings);
      },
      discard: () => closeAuditFile(opened),
    };
  }

  /** Opens the path again, for a file that was moved away. If that is not possible, the file that is open is kept. */
  async reopen(): Promise<void> {
    const current = this.#open?.file;
    if (!current) return;
    const opened = await tryToOpen(current.file.path);
    if (typeof opened === 'string') this.#failed(current.file.path, opened);
    else if (isSameFile(opened, current.file)) closeAuditFile(opened);
    else current.continueIn(opened);
  }

  /** Ends the chain and closes the file. Nothing can be written afterwards. */
  async close(): Promise<void> {
    const { file, sink } = this.#open ?? {};
    this.#open = undefined;
    this.trail.configure(undefined, false);
    this.trail.setFailing(false);
    if (!file || !sink) return;
    await sink.flush();
    await file.end();
    this.#logHead(file.file.path, file.head);
  }

  #configure(settings: AuditSettings | undefined): void {
    if (settings) this.trail.configure(this.#open?.sink, settings.isRequired);
    else void this.close();
  }

  #continueIn(opened: OpenAuditFile): void {
    if (this.#open) {
      this.#open.file.continueIn(opened);
      return;
    }
    const file: AuditFile = new AuditFile(opened, newChain(), {
      failed: (path, error) => {
        // A file that is being closed no longer matters to calls.
        if (this.#open?.file === file) this.trail.setFailing(true);
        this.#failed(path, error);
      },
      recovered: (path) => {
        if (this.#open?.file === file) this.trail.setFailing(false);
        this.#failureLoggedAtMs = Number.NEGATIVE_INFINITY;
        this.#logger.log('audit_log_recovered', { file: path });
      },
      written: (lines) => {
        this.#metrics.auditLines.inc(lines);
        if (performance.now() - this.#headLoggedAtMs > AUDIT_HEAD_MS)
          this.#logHead(file.file.path, file.head);
      },
      opened: (path, head) => this.#logHead(path, head),
    });
    this.#open = { file, sink: batchLines(file) };
  }

  #failed(path: string, reason: string): void {
    this.#metrics.auditWriteErrors.inc();
    const nowMs = performance.now();
    if (nowMs - this.#failureLoggedAtMs < AUDIT_FAILURE_LOG_MS) return;
    this.#failureLoggedAtMs = nowMs;
    this.#logger.log('audit_log_failed', { error: `Audit lines cannot be written: ${reason}.`, file: path });
  }

  #logHead(path: string, { chain, sequence, hash }: ChainHead): void {
    this.#headLoggedAtMs = performance.now();
    this.#logger.log('audit_log_head', {
      file: path,
      'audit.chain': chain,
      'audit.sequence': sequence,
      'audit.hash': hash,
    });
  }
}

/** Opens a file, or returns why that is not possible. */
async function tryToOpen(path: string): Promise<OpenAuditFile | string> {
  try {
    return await openAuditFile(path);
  } catch (error) {
    return describeFileError(path, error);
  }
}
