import * as limits from './limits.js';

type Widened<Bound> = Bound extends number
  ? number
  : { readonly [Part in keyof Bound]: Widened<Bound[Part]> };

/** The bounds as values, so that tests can violate one relation at a time. */
export type Bounds = Widened<typeof limits>;

/** The initial flow-control window of HTTP/2, RFC 9113 section 6.9.2. */
const HTTP2_INITIAL_WINDOW_BYTES = 65_535;

/** The default of SETTINGS_MAX_FRAME_SIZE, RFC 9113 section 6.5.2. */
const HTTP2_FRAME_BYTES = 16_384;

/** The limit of Node's HTTP/2 library for resets and for empty frames, after which it drops a connection without a reason. */
const NODE_FRAME_LIMIT = 1000;

/** Descriptors of the log, DNS, systemd-notify and the admin connection that is closed because there are too many. */
const OTHER_DESCRIPTORS = 6;

/** The relations between bounds that the code relies on. Each names what would break without it. */
export const RELATIONS: readonly {
  readonly rule: string;
  readonly holds: (bounds: Bounds) => boolean;
}[] = [
  {
    rule: 'a queue holds a full read behind a small one: MAX_QUEUED_BYTES ≥ SHARED_READ_BUFFER_BYTES + READ_BUFFER_BYTES',
    holds: (of) => of.MAX_QUEUED_BYTES >= of.SHARED_READ_BUFFER_BYTES + of.READ_BUFFER_BYTES,
  },
  {
    rule: 'the queue of a request holds a full read: MAX_HTTP2_QUEUED_BYTES ≥ READ_BUFFER_BYTES',
    holds: (of) => of.MAX_HTTP2_QUEUED_BYTES >= of.READ_BUFFER_BYTES,
  },
  {
    rule: 'blocks of small chunks fit in a queue: BYTE_QUEUE_BLOCK_BYTES ≤ MAX_HTTP2_QUEUED_BYTES',
    holds: (of) => of.BYTE_QUEUE_BLOCK_BYTES <= of.MAX_HTTP2_QUEUED_BYTES,
  },
  {
    rule: 'chunks that are queued as they are cost less than a queue may: BYTE_QUEUE_FEW_ENTRIES × BYTE_QUEUE_ENTRY_BYTES ≤ MAX_HTTP2_QUEUED_BYTES',
    holds: (of) => of.BYTE_QUEUE_FEW_ENTRIES * of.BYTE_QUEUE_ENTRY_BYTES <= of.MAX_HTTP2_QUEUED_BYTES,
  },
  {
    rule: 'before its first answer a client may fill its window after one header list: MAX_UNANSWERED_BYTES ≥ 65 535 + MAX_HEADER_LIST_BYTES',
    holds: (of) => of.MAX_UNANSWERED_BYTES >= HTTP2_INITIAL_WINDOW_BYTES + of.MAX_HEADER_LIST_BYTES,
  },
  {
    rule: 'one read may contain a whole head: HTTP2_PREFACE_BYTES, MAX_PROXY_V1_BYTES ≤ MAX_PROXY_V2_BYTES ≤ MAX_CLIENT_HELLO_BYTES ≤ READ_BUFFER_BYTES',
    holds: (of) =>
      Math.max(of.HTTP2_PREFACE_BYTES, of.MAX_PROXY_V1_BYTES) <= of.MAX_PROXY_V2_BYTES &&
      of.MAX_PROXY_V2_BYTES <= of.MAX_CLIENT_HELLO_BYTES &&
      of.MAX_CLIENT_HELLO_BYTES <= of.READ_BUFFER_BYTES,
  },
  {
    rule: 'a suspect handshake is one that is accepted in size: SUSPECT_FLIGHT_BYTES < MAX_CLIENT_FLIGHT_BYTES',
    holds: (of) => of.SUSPECT_FLIGHT_BYTES < of.MAX_CLIENT_FLIGHT_BYTES,
  },
  {
    rule: 'there are RSA keys of a good size: MIN_RSA_KEY_BITS ≤ MAX_RSA_KEY_BITS',
    holds: (of) => of.MIN_RSA_KEY_BITS <= of.MAX_RSA_KEY_BITS,
  },
  {
    rule: 'a chain of the maximum length can be verified: MAX_CLIENT_CERTIFICATES ≤ MAX_SIGNATURE_CHECKS',
    holds: (of) => of.MAX_CLIENT_CERTIFICATES <= of.MAX_SIGNATURE_CHECKS,
  },
  {
    rule: 'an identity fits in a header: MAX_IDENTITY_LENGTH ≤ MAX_CERTIFICATE_HEADER_LENGTH',
    holds: (of) => of.MAX_IDENTITY_LENGTH <= of.MAX_CERTIFICATE_HEADER_LENGTH,
  },
  {
    rule: 'timers can wait as long as they must: FLIGHT_GUARD_MS, MAX_SESSION_EPOCH_MS ≤ MAX_TIMER_MS',
    holds: (of) => Math.max(of.FLIGHT_GUARD_MS, of.MAX_SESSION_EPOCH_MS) <= of.MAX_TIMER_MS,
  },
  {
    rule: 'a sweep is not longer than the deadlines it checks: SWEEP_MS_MIN ≤ SWEEP_MS_MAX ≤ CALL_SERVED_MS',
    holds: (of) => of.SWEEP_MS_MIN <= of.SWEEP_MS_MAX && of.SWEEP_MS_MAX <= of.CALL_SERVED_MS,
  },
  {
    rule: 'a stream is old before its call counts as served: OLD_STREAM_MS ≤ CALL_SERVED_MS',
    holds: (of) => of.OLD_STREAM_MS <= of.CALL_SERVED_MS,
  },
  {
    rule: 'a message fits in a frame of HTTP/2: MAX_ENCODED_MESSAGE_BYTES < 16 384',
    holds: (of) => of.MAX_ENCODED_MESSAGE_BYTES < HTTP2_FRAME_BYTES,
  },
  {
    rule: 'a value that is kept fits in a header list: MAX_FIELD_VALUE_BYTES ≤ MAX_HEADER_LIST_BYTES',
    holds: (of) => of.MAX_FIELD_VALUE_BYTES <= of.MAX_HEADER_LIST_BYTES,
  },
  {
    rule: 'a method that gets a label, and a name and a message that are logged, are kept whole: MAX_METHOD_PATH_LENGTH, MAX_LOGGED.grpcName, MAX_LOGGED.grpcMessage ≤ MAX_FIELD_VALUE_BYTES',
    holds: (of) =>
      Math.max(of.MAX_METHOD_PATH_LENGTH, of.MAX_LOGGED.grpcName, of.MAX_LOGGED.grpcMessage) <=
      of.MAX_FIELD_VALUE_BYTES,
  },
  {
    rule: 'a header list that is accepted fits in a block, and a dynamic table has no larger ones: MAX_HEADER_TABLE_BYTES ≤ MAX_HEADER_LIST_BYTES ≤ MAX_HEADER_BLOCK_BYTES',
    holds: (of) =>
      of.MAX_HEADER_TABLE_BYTES <= of.MAX_HEADER_LIST_BYTES &&
      of.MAX_HEADER_LIST_BYTES <= of.MAX_HEADER_BLOCK_BYTES,
  },
  {
    rule: 'a block in one frame can be collected, and one in CONTINUATION frames is longer than the least of them: MIN_CONTINUATION_BYTES ≤ MAX_HEADER_BLOCK_BYTES ≤ MAX_COLLECTED_FRAME_BYTES',
    holds: (of) =>
      of.MIN_CONTINUATION_BYTES <= of.MAX_HEADER_BLOCK_BYTES &&
      of.MAX_HEADER_BLOCK_BYTES <= of.MAX_COLLECTED_FRAME_BYTES,
  },
  {
    rule: 'a table of streams that is kept is not below the least: STREAM_TABLE_SLOTS_MIN ≤ STREAM_TABLE_SLOTS_KEPT',
    holds: (of) => of.STREAM_TABLE_SLOTS_MIN <= of.STREAM_TABLE_SLOTS_KEPT,
  },
  {
    rule: 'each default of abuse_limits is allowed: LEAST_ABUSE_LIMITS ≤ ABUSE_LIMITS',
    holds: ({ ABUSE_LIMITS: defaults, LEAST_ABUSE_LIMITS: least }) =>
      (['resets', 'lateResets', 'controlFrames', 'smallFrames', 'oversizedHeaders'] as const).every(
        (name) =>
          least[name].burst <= defaults[name].burst && least[name].perSecond <= defaults[name].perSecond,
      ) &&
      least.headerListBytes <= defaults.headerListBytes &&
      least.callsPerConnection <= defaults.callsPerConnection,
  },
  {
    rule: 'the connections of a backchannel exceed no limit on calls: MAX_BACKCHANNEL_CONNECTIONS ≤ LEAST_ABUSE_LIMITS.callsPerConnection',
    holds: (of) => of.MAX_BACKCHANNEL_CONNECTIONS <= of.LEAST_ABUSE_LIMITS.callsPerConnection,
  },
  {
    rule: `empty DATA frames exceed a limit before Node's: ABUSE_LIMITS.smallFrames.burst < ${NODE_FRAME_LIMIT} × EMPTY_DATA_TOKENS`,
    holds: (of) => of.ABUSE_LIMITS.smallFrames.burst < NODE_FRAME_LIMIT * of.EMPTY_DATA_TOKENS,
  },
  {
    rule: `abandoned requests exceed a limit before Node's: ABANDONED_REQUESTS.burst < ${NODE_FRAME_LIMIT}`,
    holds: (of) => of.ABANDONED_REQUESTS.burst < NODE_FRAME_LIMIT,
  },
  {
    rule: 'a client that resets all of its open requests exceeds no limit: MAX_HTTP2_REQUESTS ≤ ABANDONED_REQUESTS.burst',
    holds: (of) => of.MAX_HTTP2_REQUESTS <= of.ABANDONED_REQUESTS.burst,
  },
  {
    rule: 'an upstream connection is used for a while before its upstream may close it: UPSTREAM_IDLE_MARGIN_MS < UPSTREAM_IDLE_MS',
    holds: (of) => of.UPSTREAM_IDLE_MARGIN_MS < of.UPSTREAM_IDLE_MS,
  },
  {
    rule: 'followed calls leave room in the heap: CALLS_HEAP_SHARE < MAX_HEAP_SHARE < OLD_GENERATION_SHARE ≤ 1',
    holds: (of) =>
      of.CALLS_HEAP_SHARE < of.MAX_HEAP_SHARE &&
      of.MAX_HEAP_SHARE < of.OLD_GENERATION_SHARE &&
      of.OLD_GENERATION_SHARE <= 1,
  },
  {
    rule: `the reserve of descriptors suffices: RESERVED_DESCRIPTORS ≥ MAX_ADMIN_CONNECTIONS + MAX_HEALTH_CHECKS_AT_ONCE + MAX_FILE_WORK + ${OTHER_DESCRIPTORS} others`,
    holds: (of) =>
      of.RESERVED_DESCRIPTORS >=
      of.MAX_ADMIN_CONNECTIONS + of.MAX_HEALTH_CHECKS_AT_ONCE + of.MAX_FILE_WORK + OTHER_DESCRIPTORS,
  },
  {
    rule: 'a worker reports several times, and answers, before it counts as silent: 2 × WORKER_REPORT_MS, WORKER_ANSWER_MS, WORKER_PREPARE_MS < WORKER_SILENT_REPORTS × WORKER_REPORT_MS',
    holds: (of) =>
      Math.max(2 * of.WORKER_REPORT_MS, of.WORKER_ANSWER_MS, of.WORKER_PREPARE_MS) <
      of.WORKER_SILENT_REPORTS * of.WORKER_REPORT_MS,
  },
  {
    rule: 'a worker whose files hang reports that, and is not stuck: FILE_DEADLINE_MS < WORKER_PREPARE_MS',
    holds: (of) => of.FILE_DEADLINE_MS < of.WORKER_PREPARE_MS,
  },
  {
    rule: 'the wait before a restart grows: WORKER_RESTART_MS_MIN ≤ WORKER_RESTART_MS_MAX',
    holds: (of) => of.WORKER_RESTART_MS_MIN <= of.WORKER_RESTART_MS_MAX,
  },
  {
    rule: 'a worker that ends at once is noticed as a loop, despite the waits: WORKER_RESTART_MS_MIN × 2^(WORKER_LOOP_EXITS - 1) < WORKER_LOOP_MS',
    holds: (of) => of.WORKER_RESTART_MS_MIN * 2 ** (of.WORKER_LOOP_EXITS - 1) < of.WORKER_LOOP_MS,
  },
  {
    rule: 'a poll is not longer than the deadline of a file: RELOAD_POLL_MS ≤ FILE_DEADLINE_MS',
    holds: (of) => of.RELOAD_POLL_MS <= of.FILE_DEADLINE_MS,
  },
  {
    rule: 'files that hang leave threads for DNS and the log: MAX_FILE_WORK ≤ UV_THREADS_MIN - 2',
    holds: (of) => of.MAX_FILE_WORK <= of.UV_THREADS_MIN - 2,
  },
  {
    rule: 'a field fits in a batch, a batch in the reserve, and the reserve in the queue of the log: MAX_LOG_FIELD_LENGTH ≤ LOG_BATCH_BYTES ≤ RESERVED_LOG_BYTES < MAX_LOG_QUEUE_BYTES',
    holds: (of) =>
      of.MAX_LOG_FIELD_LENGTH <= of.LOG_BATCH_BYTES &&
      of.LOG_BATCH_BYTES <= of.RESERVED_LOG_BYTES &&
      of.RESERVED_LOG_BYTES < of.MAX_LOG_QUEUE_BYTES,
  },
  {
    rule: 'a logged value of a client fits in a field: MAX_LOGGED ≤ MAX_LOG_FIELD_LENGTH',
    holds: (of) => Math.max(...Object.values(of.MAX_LOGGED)) <= of.MAX_LOG_FIELD_LENGTH,
  },
  {
    rule: 'lines about calls leave room for those about connections: UNAUTHENTICATED_CALL_LINES < UNAUTHENTICATED_LINES',
    holds: (of) =>
      of.UNAUTHENTICATED_CALL_LINES.burst < of.UNAUTHENTICATED_LINES.burst &&
      of.UNAUTHENTICATED_CALL_LINES.perSecond < of.UNAUTHENTICATED_LINES.perSecond,
  },
  {
    rule: 'the last lines are tried again before the process ends: LOG_DELAY_MS, LOG_RETRY_MS < LOG_FLUSH_MS',
    holds: (of) => Math.max(of.LOG_DELAY_MS, of.LOG_RETRY_MS) < of.LOG_FLUSH_MS,
  },
  {
    rule: 'a page has several turns, and its default is allowed: ADMIN_ENTRIES_PER_TURN ≤ STATUS_PAGE_ENTRIES ≤ STATUS_PAGE_ENTRIES_MAX',
    holds: (of) =>
      of.ADMIN_ENTRIES_PER_TURN <= of.STATUS_PAGE_ENTRIES &&
      of.STATUS_PAGE_ENTRIES <= of.STATUS_PAGE_ENTRIES_MAX,
  },
  {
    rule: 'a connection on a page has no more calls than the page of calls: STATUS_PAGE_CONNECTION_RPCS ≤ STATUS_PAGE_ENTRIES',
    holds: (of) => of.STATUS_PAGE_CONNECTION_RPCS <= of.STATUS_PAGE_ENTRIES,
  },
  {
    rule: 'a request and the answers of workers come before the deadline of a scrape: ADMIN_REQUEST_MS, WORKER_ANSWER_MS < ADMIN_ANSWER_MS',
    holds: (of) => Math.max(of.ADMIN_REQUEST_MS, of.WORKER_ANSWER_MS) < of.ADMIN_ANSWER_MS,
  },
  {
    rule: 'the margin of a stop suffices for workers, the log, threads, and for systemd-notify: STOP_MARGIN_MS ≥ WORKER_END_MS + LOG_FLUSH_MS + STUCK_THREAD_MS, NOTIFY_MS',
    holds: (of) =>
      of.STOP_MARGIN_MS >= Math.max(of.WORKER_END_MS + of.LOG_FLUSH_MS + of.STUCK_THREAD_MS, of.NOTIFY_MS),
  },
  {
    rule: 'threads are looked at several times before the process ends without them: END_POLL_MS < STUCK_THREAD_MS',
    holds: (of) => of.END_POLL_MS < of.STUCK_THREAD_MS,
  },
  {
    rule: 'a new certificate causes no warning and does not outlive its CA: CERTIFICATE_WARN_DAYS < CERTIFICATE_DAYS ≤ MAX_CERTIFICATE_DAYS ≤ AUTHORITY_DAYS',
    holds: (of) =>
      of.CERTIFICATE_WARN_DAYS < of.CERTIFICATE_DAYS &&
      of.CERTIFICATE_DAYS <= of.MAX_CERTIFICATE_DAYS &&
      of.MAX_CERTIFICATE_DAYS <= of.AUTHORITY_DAYS,
  },
];

/**
 * Checks the relations between bounds; the program does so at its start.
 * @throws an error with each rule that is violated
 */
export function assertRelations(bounds: Bounds = limits): void {
  const violated = RELATIONS.filter(({ holds }) => !holds(bounds)).map(({ rule }) => rule);
  if (violated.length > 0) throw new Error(`bounds contradict each other: ${violated.join('; ')}`);
}
