import { describe, expect, it } from 'vitest';

import { assertRelations, RELATIONS, type Bounds } from '../src/limit-relations.js';
import * as limits from '../src/limits.js';

/** For each relation, bounds that violate it: the left side is raised, or the right side is lowered. */
const VIOLATIONS: readonly (readonly [rule: string, bounds: Partial<Bounds>])[] = [
  ['a queue holds a full read', { MAX_QUEUED_BYTES: limits.SHARED_READ_BUFFER_BYTES }],
  ['the queue of a request holds', { MAX_HTTP2_QUEUED_BYTES: limits.READ_BUFFER_BYTES - 1 }],
  ['blocks of small chunks', { BYTE_QUEUE_BLOCK_BYTES: limits.MAX_HTTP2_QUEUED_BYTES + 1 }],
  ['chunks that are queued as they are', { BYTE_QUEUE_FEW_ENTRIES: 65 }],
  ['before its first answer', { MAX_UNANSWERED_BYTES: limits.MAX_HEADER_LIST_BYTES }],
  ['one read may contain', { MAX_CLIENT_HELLO_BYTES: limits.READ_BUFFER_BYTES + 1 }],
  ['a suspect handshake', { SUSPECT_FLIGHT_BYTES: limits.MAX_CLIENT_FLIGHT_BYTES }],
  ['there are RSA keys', { MIN_RSA_KEY_BITS: limits.MAX_RSA_KEY_BITS + 1 }],
  ['a chain of the maximum', { MAX_SIGNATURE_CHECKS: limits.MAX_CLIENT_CERTIFICATES - 1 }],
  ['an identity fits', { MAX_IDENTITY_LENGTH: limits.MAX_CERTIFICATE_HEADER_LENGTH + 1 }],
  ['timers can wait', { FLIGHT_GUARD_MS: limits.MAX_TIMER_MS + 1 }],
  ['a sweep is not longer', { SWEEP_MS_MAX: limits.CALL_SERVED_MS + 1 }],
  ['a stream is old', { OLD_STREAM_MS: limits.CALL_SERVED_MS + 1 }],
  ['a message fits', { MAX_ENCODED_MESSAGE_BYTES: 16_384 }],
  ['a value that is kept', { MAX_FIELD_VALUE_BYTES: limits.MAX_HEADER_LIST_BYTES + 1 }],
  ['a method that gets a label', { MAX_METHOD_PATH_LENGTH: limits.MAX_FIELD_VALUE_BYTES + 1 }],
  ['a header list that is accepted', { MAX_HEADER_TABLE_BYTES: limits.MAX_HEADER_LIST_BYTES + 1 }],
  ['a block in one frame', { MAX_COLLECTED_FRAME_BYTES: limits.MAX_HEADER_BLOCK_BYTES - 1 }],
  ['a table of streams', { STREAM_TABLE_SLOTS_MIN: limits.STREAM_TABLE_SLOTS_KEPT + 1 }],
  [
    'each default of abuse_limits',
    { LEAST_ABUSE_LIMITS: { ...limits.LEAST_ABUSE_LIMITS, resets: { burst: 10_000, perSecond: 1 } } },
  ],
  [
    'the connections of a backchannel',
    { MAX_BACKCHANNEL_CONNECTIONS: limits.LEAST_ABUSE_LIMITS.callsPerConnection + 1 },
  ],
  ['empty DATA frames', { EMPTY_DATA_TOKENS: 10 }],
  ['abandoned requests', { ABANDONED_REQUESTS: { burst: 1000, perSecond: 33 } }],
  ['a client that resets all', { MAX_HTTP2_REQUESTS: limits.ABANDONED_REQUESTS.burst + 1 }],
  ['an upstream connection', { UPSTREAM_IDLE_MARGIN_MS: limits.UPSTREAM_IDLE_MS }],
  ['followed calls leave room', { CALLS_HEAP_SHARE: limits.MAX_HEAP_SHARE }],
  ['the reserve of descriptors', { RESERVED_DESCRIPTORS: limits.MAX_ADMIN_CONNECTIONS }],
  ['a worker reports several times', { WORKER_SILENT_REPORTS: 1 }],
  ['a worker whose files hang', { FILE_DEADLINE_MS: limits.WORKER_PREPARE_MS }],
  ['the wait before a restart', { WORKER_RESTART_MS_MIN: limits.WORKER_RESTART_MS_MAX + 1 }],
  ['a worker that ends at once', { WORKER_LOOP_EXITS: 20 }],
  ['a poll is not longer', { RELOAD_POLL_MS: limits.FILE_DEADLINE_MS + 1 }],
  ['files that hang leave threads', { MAX_FILE_WORK: limits.UV_THREADS_MIN }],
  ['a field fits in a batch', { RESERVED_LOG_BYTES: limits.MAX_LOG_QUEUE_BYTES }],
  ['a logged value of a client', { MAX_LOG_FIELD_LENGTH: limits.MAX_LOGGED.path - 1 }],
  ['lines about calls leave room', { UNAUTHENTICATED_CALL_LINES: limits.UNAUTHENTICATED_LINES }],
  ['the last lines are tried', { LOG_RETRY_MS: limits.LOG_FLUSH_MS }],
  ['a page has several turns', { STATUS_PAGE_ENTRIES: limits.STATUS_PAGE_ENTRIES_MAX + 1 }],
  ['a connection on a page', { STATUS_PAGE_CONNECTION_RPCS: limits.STATUS_PAGE_ENTRIES + 1 }],
  ['a request and the answers', { WORKER_ANSWER_MS: limits.ADMIN_ANSWER_MS }],
  ['the margin of a stop', { STOP_MARGIN_MS: limits.WORKER_END_MS }],
  ['threads are looked at', { END_POLL_MS: limits.STUCK_THREAD_MS }],
  ['a new certificate', { CERTIFICATE_DAYS: limits.CERTIFICATE_WARN_DAYS }],
];

describe('relations between the bounds of src/limits.ts', () => {
  it('hold between the bounds of the program', () => {
    expect(() => assertRelations()).not.toThrow();
  });

  it('have a violation in this test, each of them', () => {
    const untested = RELATIONS.filter(({ rule }) => !VIOLATIONS.some(([start]) => rule.startsWith(start)));
    expect(untested).toEqual([]);
  });

  it.each(VIOLATIONS)('make the program throw if they are violated: %s', (rule, violation) => {
    expect(() => assertRelations({ ...limits, ...violation })).toThrow(rule);
  });
});
