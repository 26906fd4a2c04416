import { ErrorCode } from '../http2/http2-frame.js';

/** gRPC status codes by number, in the words of grpc-go and go-grpc-prometheus (`codes.Code.String`). */
export const STATUS_CODES = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
] as const;

/** A status code in words. */
export type StatusCode = (typeof STATUS_CODES)[number];

const CODE_OF = new Map(STATUS_CODES.map((code, number) => [String(number), code]));

/** `grpc-status` as received; an unknown code becomes Unknown, so that the set stays closed. */
export function statusCode(grpcStatus: string): StatusCode {
  return CODE_OF.get(grpcStatus) ?? 'Unknown';
}

/**
 * The code of an answer without `grpc-status`, from its HTTP status (doc/http-grpc-status-mapping.md of the gRPC
 * repository).
 */
export function statusCodeOfHttp(status: string | undefined): StatusCode {
  switch (status) {
    case '400':
      return 'Internal';
    case '401':
      return 'Unauthenticated';
    case '403':
      return 'PermissionDenied';
    case '404':
      return 'Unimplemented';
    case '429':
    case '502':
    case '503':
    case '504':
      return 'Unavailable';
    default:
      return 'Unknown';
  }
}

/** The code of a stream that the server has reset (gRPC over HTTP/2, "Errors"). */
export function statusCodeOfReset(errorCode: number): StatusCode {
  switch (errorCode) {
    case ErrorCode.refusedStream:
      return 'Unavailable';
    case ErrorCode.cancel:
      return 'Canceled';
    case ErrorCode.enhanceYourCalm:
      return 'ResourceExhausted';
    case ErrorCode.inadequateSecurity:
      return 'PermissionDenied';
    default:
      return 'Internal';
  }
}
