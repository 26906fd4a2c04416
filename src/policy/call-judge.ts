/** A call as its first header block shows it, before any byte of that block is forwarded. */
export interface JudgedCall {
  /** `:path` as sent; '' if it has none. */
  readonly path: string;
  readonly correlationId: string | undefined;
  /** Whether it has an `authorization` field. Its value never becomes a string. */
  readonly hasAuthorization: boolean;
  /** The first field that only the proxy may add (`upstream_metadata`) and that the client sent; `undefined` if none. */
  readonly reservedField: string | undefined;
}

/** A call that is not forwarded. */
export interface CallRefusal {
  readonly kind: 'refuse';
  /** The gRPC status that the client gets. */
  readonly code: number;
  readonly message: string;
}

/** A call that is forwarded. */
export interface CallPermit {
  readonly kind: 'forward';
  /** HPACK literals, never indexed, to append to the header block; empty for most. */
  readonly fields: Buffer;
  /** Called once when the call is over. */
  readonly ended?: (() => void) | undefined;
}

/** Decides on the calls of one client connection. */
export interface CallJudge {
  judge(call: JudgedCall, nowMs: number): CallPermit | CallRefusal;
}
