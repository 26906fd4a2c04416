import { neverIndexed } from '../inspect/hpack/literal-field.js';
import { percentEncoded } from '../percent-encoding.js';
import type { CallJudge, CallPermit, CallRefusal, JudgedCall } from './call-judge.js';

const NOTHING = Buffer.alloc(0);

/** Code 7 of gRPC. */
const PERMISSION_DENIED = 7;

/** Gitaly's token as a header field. It is signed anew once a second, because Gitaly accepts it for 30 s only. */
export class UpstreamToken {
  readonly #sign: (unixMs: number) => string;
  readonly #unixMs: () => number;
  #second = Number.NaN;
  #field: Buffer = NOTHING;

  /** @param sign - returns the value of `authorization` for a time */
  constructor(sign: (unixMs: number) => string, unixMs: () => number = Date.now) {
    this.#sign = sign;
    this.#unixMs = unixMs;
  }

  /** The field; the same buffer within a second. */
  get field(): Buffer {
    const nowMs = this.#unixMs();
    const second = Math.floor(nowMs / 1000);
    // Not equal rather than greater: the clock may have been set back.
    if (second !== this.#second) {
      this.#second = second;
      this.#field = neverIndexed('authorization', this.#sign(nowMs));
    }
    return this.#field;
  }
}

/** The fields that a listener adds to the calls of its clients. */
export interface UpstreamMetadata {
  readonly token: UpstreamToken | undefined;
  /** The fields of `upstream_metadata` whose value is the identity of the client. */
  readonly identityFields: readonly string[];
}

/** The fields of a listener that are in effect. A reload replaces them, also for open connections. */
export class CurrentMetadata {
  #metadata: UpstreamMetadata = { token: undefined, identityFields: [] };

  get metadata(): UpstreamMetadata {
    return this.#metadata;
  }

  publish(metadata: UpstreamMetadata): void {
    this.#metadata = metadata;
  }
}

/**
 * Adds the fields of a listener to the calls of one client, and refuses a call that has one of them already: what these fields
 * contain must come from the proxy.
 */
export class MetadataJudge implements CallJudge {
  readonly #inner: CallJudge;
  readonly #current: CurrentMetadata;
  readonly #identity: string | undefined;
  /** The metadata that `#fields` were encoded from. */
  #encodedFor: UpstreamMetadata | undefined;
  #identityFields: Buffer = NOTHING;
  #tokenField: Buffer = NOTHING;
  /** Both together. */
  #allFields: Buffer = NOTHING;

  /**
   * @param inner - decides on the call
   * @param identity - of the client, as in the log; nothing is added without it
   */
  constructor(inner: CallJudge, current: CurrentMetadata, identity: string | undefined) {
    this.#inner = inner;
    this.#current = current;
    this.#identity = identity;
  }

  judge(call: JudgedCall, nowMs: number): CallPermit | CallRefusal {
    if (call.reservedField !== undefined) return this.#refuse(call.reservedField);
    const verdict = this.#inner.judge(call, nowMs);
    if (verdict.kind === 'refuse') return verdict;
    const fields = this.#fieldsFor(call);
    return fields.length === 0 ? verdict : { kind: 'forward', fields, ended: verdict.ended };
  }

  #fieldsFor({ hasAuthorization }: JudgedCall): Buffer {
    const { metadata } = this.#current;
    const tokenField = metadata.token?.field ?? NOTHING;
    if (metadata !== this.#encodedFor) {
      this.#encodedFor = metadata;
      this.#identityFields = this.#encodeIdentity(metadata.identityFields);
      this.#tokenField = NOTHING;
      this.#allFields = this.#identityFields;
    }
    if (hasAuthorization) return this.#identityFields;
    if (tokenField !== this.#tokenField) {
      this.#tokenField = tokenField;
      this.#allFields = Buffer.concat([tokenField, this.#identityFields]);
    }
    return this.#allFields;
  }

  #encodeIdentity(names: readonly string[]): Buffer {
    const identity = this.#identity;
    if (identity === undefined) return NOTHING;
    return Buffer.concat(names.map((name) => neverIndexed(name, fieldValue(identity))));
  }

  #refuse(field: string): CallRefusal {
    const whose = this.#identity === undefined ? '' : ` of ${this.#identity}`;
    const message =
      `gitaly-tls-proxy: the call${whose} has the field ${field}, which only the proxy may set: ` +
      'remove it from the metadata of the client';
    return { kind: 'refuse', code: PERMISSION_DENIED, message };
  }
}

/** RFC 9113 section 8.2.1 forbids spaces at the ends of a value, so all are encoded, as is all that is not printable ASCII. */
function fieldValue(text: string): string {
  return percentEncoded(text).replaceAll(' ', '%20');
}
