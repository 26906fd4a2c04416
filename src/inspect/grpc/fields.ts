import { FieldNames } from '../hpack/field-names.js';

/** The fields that are read, by number. Everything else of a call, its secrets above all, never becomes a string. */
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
export const FIELD_NAMES = new FieldNames([
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
]);
