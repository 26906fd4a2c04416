const TRACEPARENT = /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/;
const NO_TRACE = '0'.repeat(32);

/** The trace id of a W3C `traceparent` (Trace Context, section 3.2); `undefined` if it is malformed. */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  if (traceparent === undefined) return undefined;
  const traceId = TRACEPARENT.exec(traceparent)?.[1];
  return traceId === NO_TRACE || traceparent.startsWith('ff') ? undefined : traceId;
}
