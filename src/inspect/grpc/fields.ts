import { FieldNames } from '../hpack/field-names.js';
import type { FieldValues } from '../http2/stream-observer.js';

/** The fields whose values are read, by number. Everything else of a call, its secrets above all, never becomes a string. */
export const GrpcField = {
  path: 1,
  status: 2,
  grpcStatus: 3,
  grpcMessage: 4,
  grpcTimeout: 5,
  contentType: 6,
  clientName: 7,
  correlationId: 8,
  sidechannelId: 9,
  traceparent: 10,
} as const;

/** Their names, in the order of their numbers. */
const NAMES = [
  ':path',
  ':status',
  'grpc-status',
  'grpc-message',
  'grpc-timeout',
  'content-type',
  'client_name',
  'x-gitlab-correlation-id',
  'gitaly-sidechannel-id',
  'traceparent',
];

/** The fields that are read of calls that are not judged. */
export const FIELD_NAMES = new FieldNames(NAMES);

const AUTHORIZATION = 'authorization';

/** The fields that are read of the calls that a listener judges: besides the others, which of some fields a call has. */
export class JudgedFields {
  readonly names: FieldNames;
  readonly #authorizationId: number;
  readonly #reserved: readonly { readonly name: string; readonly id: number }[];

  /** @param reserved - names of fields that only the proxy may add. */
  constructor(reserved: readonly string[]) {
    const present = [...new Set([AUTHORIZATION, ...reserved])].filter((name) => !NAMES.includes(name));
    const all = [...NAMES, ...present];
    this.names = new FieldNames(NAMES, present);
    this.#authorizationId = all.indexOf(AUTHORIZATION) + 1;
    this.#reserved = reserved.map((name) => ({ name, id: all.indexOf(name) + 1 }));
  }

  /** Whether all reserved fields of others are reserved here too. */
  hasReserved(others: JudgedFields): boolean {
    return others.#reserved.every(({ name }) => this.#reserved.some((each) => each.name === name));
  }

  hasAuthorization(values: FieldValues): boolean {
    return values[this.#authorizationId] !== undefined;
  }

  /** The first reserved field that came. */
  reservedField(values: FieldValues): string | undefined {
    for (const { name, id } of this.#reserved) if (values[id] !== undefined) return name;
    return undefined;
  }
}
