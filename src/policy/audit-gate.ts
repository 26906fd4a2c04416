import type { CallJudge, CallPermit, CallRefusal, JudgedCall } from './call-judge.js';

const REFUSAL: CallRefusal = {
  kind: 'refuse',
  /** UNAVAILABLE: the call succeeds once lines can be written again. */
  code: 14,
  message:
    'gitaly-tls-proxy: the audit log cannot be written, and audit_required refuses calls that change repositories until it can: ' +
    'see audit_log_failed in the log of the proxy',
};

/** Refuses calls that need an audit line while lines cannot be written. */
export class AuditGate implements CallJudge {
  readonly #inner: CallJudge;
  readonly #mustRefuse: (path: string) => boolean;

  /**
   * @param inner - decides on the other calls
   * @param mustRefuse - whether a call with this `:path` needs a line that cannot be written
   */
  constructor(inner: CallJudge, mustRefuse: (path: string) => boolean) {
    this.#inner = inner;
    this.#mustRefuse = mustRefuse;
  }

  judge(call: JudgedCall, nowMs: number): CallPermit | CallRefusal {
    return this.#mustRefuse(call.path) ? REFUSAL : this.#inner.judge(call, nowMs);
  }
}
