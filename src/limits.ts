/**
 * Every bound of the program, once, with its reason, by subject. A bound that an operator may want to change is a setting, with
 * its default here or in `config/defaults.ts`; the others are constants because no deployment should need another value. Bounds
 * that a protocol defines are with the code of the protocol. `limit-relations.ts` has the relations between
 * them that the code relies on.
 */

// Queues and buffers of a relay

/** One read from a plaintext upstream socket for a plaintext client; each such connection has a buffer of its own. */
export const READ_BUFFER_BYTES = 64 * 1024;

/**
 * One read from a plaintext upstream socket for a TLS client. All such connections share the buffer, so it may be large:
 * a read that fills it costs four system calls more, to stop and to start again.
 */
export const SHARED_READ_BUFFER_BYTES = 192 * 1024;

/**
 * The bytes of one direction that this process may queue while their sink does not accept them. More would only move the queue
 * from the kernel's buffers, where the peer's flow control sees it, to ours.
 */
export const MAX_QUEUED_BYTES = 256 * 1024;

/** The same for an HTTP/2 request. A connection may have 100, each with a window of the same size on top. */
export const MAX_HTTP2_QUEUED_BYTES = 64 * 1024;

/** The overhead of a queued chunk besides its bytes: a Buffer, its ArrayBuffer, and an entry of a stream's queue. */
export const BYTE_QUEUE_ENTRY_BYTES = 1024;

/** How many chunks are queued as they are: more than a gRPC client sends in one turn of the event loop, and little memory. */
export const BYTE_QUEUE_FEW_ENTRIES = 16;

/** The block that further small chunks are joined in. For a chunk of a quarter of it, the entry is a third of the cost. */
export const BYTE_QUEUE_BLOCK_BYTES = 4096;

/**
 * The bytes that an HTTP/2 client may send before its upstream has answered. RFC 9113 section 6.9.2 allows it 65 535 bytes of
 * content until it has had the server's first WINDOW_UPDATE; the rest is headers.
 */
export const MAX_UNANSWERED_BYTES = 128 * 1024;

// First bytes of a connection: PROXY header, ClientHello, protocol

/** PROXY protocol v1: 107 bytes with CR LF (section 2.1 of the specification: "a 108-byte buffer is always enough"). */
export const MAX_PROXY_V1_BYTES = 107;

/** PROXY protocol v2: 16 bytes of header, then addresses (216 at most) and TLVs; no balancer sends 4 KiB of them. */
export const MAX_PROXY_V2_BYTES = 4096;

/**
 * The bytes of a ClientHello with its record headers; a longer one is refused. Real ones, post-quantum key shares and a
 * long list of tickets included, stay below 8 KiB.
 */
export const MAX_CLIENT_HELLO_BYTES = 32 * 1024;

/** `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, RFC 9113 section 3.4. Nothing longer is needed to distinguish the protocols. */
export const HTTP2_PREFACE_BYTES = 24;

// TLS handshakes and client certificates

/** The bytes of a client's handshake after its ClientHello. Three certificates with RSA-4096 keys have 6 kB. */
export const MAX_CLIENT_FLIGHT_BYTES = 16 * 1024;

/** The number of certificates that a client may send: its own, and more intermediates than any known PKI has. */
export const MAX_CLIENT_CERTIFICATES = 6;

/** The size of an RSA key in a client's chain, as in Go's crypto/tls. */
export const MAX_RSA_KEY_BITS = 8192;

/** The RSA exponent in a client's chain, as in Go's crypto/rsa. The cost of verification is proportional to its length. */
export const MAX_RSA_EXPONENT = 2 ** 31 - 1;

/** How long no client address is treated as known after an attack from one. Meanwhile relayed bytes of new connections cost more. */
export const FLIGHT_GUARD_MS = 600_000;

/** The number of client addresses whose handshakes are not guarded: GitLab's clients are tens of machines. Each takes 100 bytes. */
export const MAX_KNOWN_SOURCES = 4096;

/**
 * The number of concurrent handshakes of one known address that are not guarded. Until an attack is noticed, each can cost half a
 * second. A handshake takes milliseconds, so that few of one machine overlap except after a restart.
 */
export const MAX_UNGUARDED_HANDSHAKES = 4;

/**
 * The number of bytes after which a guarded connection is replaced: its client is asked to connect again, and is then not guarded.
 * A guarded connection costs up to 0.8 s of CPU per GiB more, so these bytes cost as much as a few handshakes.
 */
export const GUARDED_TRANSFER_BYTES = 16 * 1024 * 1024;

/**
 * The number of bytes after a ClientHello above which a failed handshake may have been an attack by certificates: one
 * certificate that OpenSSL refuses costs less than 10 ms.
 */
export const SUSPECT_FLIGHT_BYTES = 2048;

/**
 * KeyUpdate messages of one TLS 1.3 client. Libraries send one per 2^24 records (RFC 8446 section 5.5), which take minutes, or
 * none at all.
 */
export const KEY_UPDATES = { burst: 32, perSecond: 1 / 60 };

/** The length of the secret that the ticket keys of a listener's certificates are derived from. */
export const TICKET_SECRET_BYTES = 32;

/**
 * Ticket keys change at least this often, as in Go: each client is verified again once per day, and old tickets cannot be
 * decrypted.
 */
export const MAX_SESSION_EPOCH_MS = 24 * 60 * 60 * 1000;

/** The maximum length of a certificate name that is an identity: a SPIFFE ID has at most 2048 bytes. */
export const MAX_IDENTITY_LENGTH = 2048;

/** Identities whose calls are counted per listener and process; beyond that, the least recently used one is counted anew. */
export const MAX_LIMITED_IDENTITIES = 10_000;

/** The least `calls_per_second.rate`: one call per hour. */
export const LEAST_CALL_RATE = 1 / 3600;

/** Fields that `upstream_metadata` adds to a call: they must fit into one HTTP/2 frame with the longest identity. */
export const MAX_ADDED_FIELDS = 4;

/** RPCs in a file of `rpcs_path`: fifty times as many as Gitaly has, because each has time series of its own. */
export const MAX_RPCS = 5000;

/** Log lines about refused calls and clients: the first of each identity and RPC, then one per minute. */
export const SAMPLED_LINE_MS = 60_000;

/** The subjects of such lines per listener: beyond that, the one logged longest ago is logged anew. */
export const MAX_SAMPLED_SUBJECTS = 10_000;

/**
 * Groups of clients and RPCs that `/-/policy` shows, each about 200 bytes, for clients with a verified certificate and for others.
 * Gitaly's clients call up to 150 RPCs, so more than a hundred of them are shown.
 */
export const MAX_OBSERVED_ROWS = { verified: 20_000, others: 5000 };

/** Issuers of client certificates whose chain is remembered for resumed sessions; few installations have more than two. */
export const MAX_REMEMBERED_ISSUERS = 100;

/** The size of `/-/policy` that a command reads: the admin port keeps no more for a slow client. */
export const MAX_TRAFFIC_PAGE_BYTES = 32 * 1024 * 1024;

/** How long a command waits for `/-/policy`: as long as the admin port takes to send an answer. */
export const TRAFFIC_PAGE_MS = 30_000;

/** The length of an identity in the message of a refused call: all but long SPIFFE IDs are shown whole. */
export const MAX_SHOWN_IDENTITY_LENGTH = 256;

/** The length of an RPC name in the message of a refused call: twice the longest of Gitaly's. */
export const MAX_SHOWN_RPC_LENGTH = 128;

/** The maximum length of a header value about a client certificate, percent-encoded: common servers accept 16 KiB of header. */
export const MAX_CERTIFICATE_HEADER_LENGTH = 4096;

// Upstreams

/** RFC 8305 section 5, "Connection Attempt Delay": the recommended 250 ms. */
export const HAPPY_EYEBALLS_DELAY_MS = 250;

/** Health checks of upstreams at once: each takes a descriptor for some milliseconds, from `RESERVED_DESCRIPTORS`. */
export const MAX_HEALTH_CHECKS_AT_ONCE = 4;

/** The minimum interval of health checks: each is a connection of its own, and may be a line in the log of Gitaly. */
export const HEALTH_CHECK_INTERVAL_MS_MIN = 100;

/** The answer to a health check has a few bytes, and that of ServerInfo some for each storage: what gRPC allows by default. */
export const MAX_HEALTH_MESSAGE_BYTES = 4 * 1024 * 1024;

// Listeners and their connections

/**
 * Connections that wait in an inherited socket while they are not accepted. Linux lowers it to net.core.somaxconn, which is this
 * since 5.4; Node's own 511 would undo what systemd asked for.
 */
export const INHERITED_BACKLOG = 4096;

/** TCP keep-alive on both sides: finds a peer that vanished without a FIN within a few minutes. */
export const KEEP_ALIVE_MS = 60_000;

/**
 * How often the connections of a listener are checked for expired timeouts: four times in the shortest of them, within these
 * limits. A check of 10 000 connections takes a millisecond.
 */
export const SWEEP_MS_MIN = 100;
export const SWEEP_MS_MAX = 5000;

/**
 * How long an unauthenticated connection is protected from eviction when there are too many. A handshake and a call take a
 * fraction of it.
 */
export const UNAUTHENTICATED_MS = 1000;

/** A call whose first message upstream has had for this time, without refusing it, is being served. */
export const CALL_SERVED_MS = 5000;

/** How many open calls of an unauthenticated connection are checked periodically for an answer: the oldest are the likeliest. */
export const ANSWERS_LOOKED_FOR = 16;

/** The deadline for resolving the name of a listen address: a resolver answers, or gives up, within seconds. */
export const RESOLVE_MS = 5000;

/** How many ports are tried to find one that is free on all addresses of a name; the first nearly always is. */
export const MAX_PORT_ATTEMPTS = 10;

/** The length of a path of a unix socket: `sockaddr_un.sun_path` has 108 bytes on Linux, including the closing NUL. */
export const MAX_UNIX_PATH_BYTES = 107;

/** How often a unix socket is bound under a temporary name: processes that start at the same time may use the same name. */
export const MAX_SOCKET_ATTEMPTS = 5;

/** The deadline for looking up the user or group of a socket, which may be in a directory on the network. */
export const ACCOUNT_LOOKUP_MS = 5000;

// Refusals, drains and ends of connections

/** How long calls are answered with UNAVAILABLE on one connection before GOAWAY: one back-off of grpc-go's. */
export const UNAVAILABLE_WINDOW_MS = 1000;

/**
 * The same for a client whose certificate is refused: how long it may take to make a call, which gRPC clients do within a round
 * trip. It has the same time again to close the connection.
 */
export const REFUSED_WINDOW_MS = 300;

/** Bytes in each direction on a connection whose calls the proxy answers itself. */
export const MAX_ANSWERED_BYTES = 1024 * 1024;

/**
 * The length of a gRPC status message, percent-encoded: it leaves room in the 8 KiB of headers that the strictest clients accept,
 * and in one frame. A message may quote an upstream's certificate, which may have any length.
 */
export const MAX_ENCODED_MESSAGE_BYTES = 6000;

/** How long a refused client may take to make its request and to read the reason. */
export const FAREWELL_MS = 1000;

/**
 * How long a client that has had GOAWAY and whose calls have ended may take to leave. gRPC clients leave at once, or once
 * their program has read what came.
 */
export const DRAINED_LINGER_MS = 5000;

/**
 * How long a client may take during a drain to answer the PING after GOAWAY: the transfer of a full queue and a round trip take
 * less. It is half of `max_connection_age_grace` if that is less. It is a deadline for new calls; open calls are not limited by it.
 */
export const DRAIN_PING_MS = 10_000;

/** How much sooner or later than `max_connection_age` a connection is drained, as a share of it: what gRPC uses. */
export const AGE_JITTER = 0.1;

// Inspection of HTTP/2, gRPC and yamux

/** Fields of one header block on the gate: the limit of nghttp2 and Node; Envoy allows 100. */
export const MAX_HEADER_FIELDS = 128;

/** Size of a header list on the gate, as RFC 7541 defines it (32 bytes per field included): Node's default. */
export const MAX_HEADER_LIST_BYTES = 64 * 1024;

/**
 * How many times larger than its encoding a header list may be, beyond one dynamic table: a field costs at least one byte, and
 * an ordinary list stays below this ratio. A larger one is a bomb of one-byte references to a large entry (CVE-2016-6581).
 */
export const MAX_HEADER_AMPLIFICATION = 64;

/**
 * The bytes of a field's value that are kept. Those that are read are paths, ids and statuses, of a hundred bytes; with thousands of
 * calls open at once, longer ones would be memory that a client can fill.
 */
export const MAX_FIELD_VALUE_BYTES = 1024;

/** A dynamic table that is followed; libraries keep to 4 KiB by default, browsers ask for 64. */
export const MAX_HEADER_TABLE_BYTES = 64 * 1024;

/**
 * The continuation bytes of an integer of HPACK: as in Go's hpack, zeros at the end included. Five suffice for any valid value,
 * but with a stricter limit a client could evade inspection on purpose.
 */
export const MAX_HPACK_INTEGER_BYTES = 9;

/** CONTINUATION frames after one HEADERS: nghttp2's limit since CVE-2024-27316. gRPC libraries send no more than necessary. */
export const MAX_CONTINUATION_FRAMES = 8;

/** The bytes that allow one more CONTINUATION frame: libraries fill their frames, which have 16 KiB. */
export const MIN_CONTINUATION_BYTES = 4096;

/** An encoded header block on the gate. Decoded it may have `MAX_HEADER_LIST_BYTES`, and encoding hardly ever lengthens it. */
export const MAX_HEADER_BLOCK_BYTES = 64 * 1024;

/**
 * The payload of a frame that must be seen whole: HEADERS of a peer that allows larger frames than Gitaly's 16 KiB, with
 * priority (5) and padding (1 and 255), or GOAWAY with its debug data.
 */
export const MAX_COLLECTED_FRAME_BYTES = 64 * 1024 + 5 + 1 + 255;

/**
 * The slots of the table of open streams of one connection: a few at first, so that an idle connection is small, and at most the
 * second number while it is empty, so that a table that was large once does not stay so.
 */
export const STREAM_TABLE_SLOTS_MIN = 8;
export const STREAM_TABLE_SLOTS_KEPT = 256;

/**
 * How much before its deadline a cancelled call counts as timed out: the last tenth of its timeout, and at most 200 ms. Busy peers
 * and networks delay events: on two busy cores one call of 10 000 was seen more than 50 ms after its client had started its clock.
 */
export const TIMEOUT_TOLERANCE = { share: 0.1, ms: 200 };

/** gRPC connections within one backchannel: the client opens one, Gitaly another. */
export const MAX_BACKCHANNEL_CONNECTIONS = 8;

/** Streams of one backchannel that its server has not accepted: the limit of hashicorp's library. Gitaly accepts one. */
export const MAX_UNACCEPTED_STREAMS = 256;

// Calls that a policy judges

/**
 * The bytes of the frames of a header block that are held until its call was judged. Rails sends the feature flags of Gitaly as
 * some hundred fields, which take 30 KiB if none is in a table.
 */
export const MAX_HELD_BLOCK_BYTES = 128 * 1024;

/** Refused calls whose frames are still dropped: more than a connection has in flight, and each takes a few bytes. */
export const MAX_REFUSED_STREAMS = 4096;

/**
 * Refused calls whose streams the server has not reset yet. Gitaly resets them in microseconds; a client that makes calls faster
 * than Gitaly reads them would fill memory.
 */
export const MAX_UNRESET_STREAMS = 65_536;

/** Refused calls that wait for a boundary between frames for the client: it comes with the next bytes that the client reads. */
export const MAX_UNSENT_REFUSALS = 4096;

/**
 * Bytes that wait for the socket of a client whose refused calls are answered: the answers to 10 000 calls at once
 * (`callsPerConnection`). A client that does not read could otherwise fill memory until `timeouts.write_stall`.
 */
export const MAX_UNREAD_ANSWER_BYTES = 4 * 1024 * 1024;

/**
 * Dropped bytes of the edited stream of a backchannel after which their sender gets a window update. Receivers send theirs at half
 * a window, which is at least 256 KiB: a sender that waits for less than this has one of these coming.
 */
export const YAMUX_REPAID_BYTES = 64 * 1024;

/**
 * Bytes for one end of the edited stream of a backchannel that wait for its window. Only as many wait as the proxy has inserted:
 * 10 000 calls (`callsPerConnection`) that are refused at once have answers of some 400 bytes each.
 */
export const MAX_HELD_YAMUX_BYTES = 4 * 1024 * 1024;

// Abuse of HTTP/2

/** The age at which a stream is old: any server has begun its work by then. */
export const OLD_STREAM_MS = 100;

/** The defaults of `abuse_limits`, per connection. */
export const ABUSE_LIMITS = {
  /**
   * RST_STREAM of young streams, from either end: the token bucket of nghttp2 and Node against rapid reset (CVE-2023-44487). The
   * server's resets that a client provokes count too (CVE-2025-8671). A reset after the answer is free, and each answered call adds
   * a token, because a busy Praefect cancels more calls than the bucket allows.
   */
  resets: { burst: 1000, perSecond: 33 },

  /** RST_STREAM of streams that are old or that the server has begun to answer: all open calls may have the same deadline. */
  lateResets: { burst: 10_000, perSecond: 1000 },

  /**
   * PING and SETTINGS of one end (CVE-2019-9512, -9515): each makes the other end answer. A DATA frame of the other end adds a
   * token, because gRPC libraries measure the round trip with a PING while data arrives.
   */
  controlFrames: { burst: 1000, perSecond: 33 },

  /**
   * Frames of one end without content: WINDOW_UPDATE, PRIORITY, empty DATA, answers to PINGs and SETTINGS, unknown types
   * (CVE-2019-9511, -9513, -9517, -9518); and HEADERS and DATA of streams that are not open. The bucket is that of nghttp2 for
   * glitches. Data of the other end adds tokens for its window updates.
   */
  smallFrames: { burst: 10_000, perSecond: 330 },

  /** Header lists that are too large. Gitaly refuses such a call itself, so only many of them are an attack. */
  oversizedHeaders: { burst: 10, perSecond: 0.1 },

  /**
   * The size of a header list: the default limit of grpc-go, and therefore of Gitaly. Rails sends one field per feature flag of
   * Gitaly, so calls with hundreds of fields are normal. The list is not kept.
   */
  headerListBytes: 16 * 1024 * 1024,

  /**
   * Open calls, including those inside a backchannel; each stream of a backchannel counts as one. A client of Gitaly has a few
   * hundred; grpc-go has no limit by default.
   */
  callsPerConnection: 10_000,
};

/** The minimum of each of them: what the libraries of Gitaly's clients need on an ordinary connection. */
export const LEAST_ABUSE_LIMITS = {
  resets: { burst: 10, perSecond: 1 },
  lateResets: { burst: 10, perSecond: 1 },
  controlFrames: { burst: 10, perSecond: 1 },
  smallFrames: { burst: 100, perSecond: 1 },
  oversizedHeaders: { burst: 1, perSecond: 0 },
  headerListBytes: 8 * 1024,
  callsPerConnection: 10,
};

/** The SETTINGS of one end that the other has not acknowledged: no library sends more than two. */
export const MAX_UNACKNOWLEDGED_SETTINGS = 16;

/** Open streams that cost as much as one control frame when a SETTINGS frame changes the windows of all. */
export const STREAMS_PER_CONTROL_FRAME = 100;

/**
 * The bytes of data that pay for one such frame, besides one frame per DATA frame: libraries update windows by a quarter of
 * 64 KiB or more.
 */
export const DATA_BYTES_PER_SMALL_FRAME = 1024;

/** The tokens that a small DATA frame adds while its stream has no observer: fewer than creating the frame costs. */
export const UNFOLLOWED_DATA_PAYS = 0.5;

/** The number of these frames that a request at the gate pays for: it costs more than they do, and some clients send a PING with
 * each. */
export const REQUEST_PAYS = { control: 1, small: 4 };

/**
 * The tokens that an empty DATA frame takes at the gate: Node's library accepts 1000 of them and then drops the connection without
 * a reason, so the limit must be reached before.
 */
export const EMPTY_DATA_TOKENS = 12;

/**
 * Requests that an HTTP/2 client gives up before their end (CVE-2023-44487). Node's library allows 1000, and in Node 20 does not
 * close a connection that it has given up for that: it must be closed before.
 */
export const ABANDONED_REQUESTS = { burst: 500, perSecond: 33 };

// HTTP: gate and egress

/** The length of the name in Host or `:authority`: RFC 1035 section 2.3.4 allows a domain name 255 bytes. */
export const MAX_HOST_NAME_LENGTH = 255;

/** The length of an `X-Request-Id` that is logged: GitLab's have at most 64 characters. A longer one is not logged. */
export const MAX_REQUEST_ID_LENGTH = 255;

/**
 * Requests that are open at once on one HTTP/2 connection: what most servers allow. Each may take a connection to upstream.
 */
export const MAX_HTTP2_REQUESTS = 100;

/** Requests that an HTTP/1.1 client may have sent without waiting for an answer; none of today's clients does so at all. */
export const MAX_PIPELINED_REQUESTS = 16;

/** How often a path may be percent-encoded again: no correct client does it more than twice. */
export const MAX_PATH_READINGS = 3;

/**
 * How long a connection to an HTTP upstream is kept for the next request: less than the 5 s after which Node and Apache
 * close one, so that a request does not meet the end of its connection. A push makes three calls within a second.
 */
export const UPSTREAM_IDLE_MS = 4000;

/** How long before the end that an upstream announces for an idle connection (`Keep-Alive: timeout=…`) the connection is closed. */
export const UPSTREAM_IDLE_MARGIN_MS = 1000;

/** Connections to one HTTP upstream that wait for a request. */
export const UPSTREAM_IDLE_CONNECTIONS_MAX = 32;

// Memory and file descriptors

/** Heap of one followed call with values of the maximum length in each of its fields. A typical call needs 1.6 KiB. */
export const CALL_HEAP_BYTES = 8 * 1024;

/** The part of the old generation of the heap that followed calls may occupy, for all connections together. */
export const CALLS_HEAP_SHARE = 0.25;

/**
 * The part of the old generation above which connections are refused and no further calls are followed. V8 collects garbage
 * before the heap has grown halfway from its live size to its limit, so this level is never reached by garbage alone.
 */
export const MAX_HEAP_SHARE = 0.75;

/** The part of V8's heap limit that the old generation gets; the young generation takes 1 % (Node 20) to 5 % (Node 24). */
export const OLD_GENERATION_SHARE = 0.95;

/**
 * The part of the memory of the machine, or of its container, above which the same applies. It includes buffers outside of the
 * heap.
 */
export const MAX_MEMORY_SHARE = 0.8;

/** How often memory is checked: in this time loopback transfers less than 100 MB. */
export const MEMORY_SAMPLE_MS = 50;

/** File descriptors per connection: the socket of the client and that of the upstream. */
export const DESCRIPTORS_PER_CONNECTION = 2;

/**
 * File descriptors kept back for the log, certificate files, DNS, systemd-notify, the admin port and its scrapes, and health
 * checks.
 */
export const RESERVED_DESCRIPTORS = 28;

// Workers

/** More workers than the cores of any machine that Gitaly runs on are a typing error. */
export const MAX_WORKERS = 256;

/** How often a worker reports its counts: those of at most this time are lost if it is killed. */
export const WORKER_REPORT_MS = 1000;

/** A worker that has reported nothing for this number of intervals hangs: it is killed and replaced. */
export const WORKER_SILENT_REPORTS = 20;

/** A worker that does not answer a scrape within this time is left out of it; a turn of its event loop takes milliseconds. */
export const WORKER_ANSWER_MS = 1000;

/** A worker that has not prepared a plan after this time is stuck. */
export const WORKER_PREPARE_MS = 10_000;

/** The wait before a worker that exited is replaced: the minimum at first, twice as long after each further exit. */
export const WORKER_RESTART_MS_MIN = 100;
export const WORKER_RESTART_MS_MAX = 10_000;

/** A worker that exits this number of times within this time is in a crash loop, and the proxy is not ready. */
export const WORKER_LOOP_EXITS = 5;
export const WORKER_LOOP_MS = 60_000;

/** How long a worker may take to end whose connections were cut; then it is killed. */
export const WORKER_END_MS = 5000;

/** Accepted connections that wait while no worker is ready and one is being started. */
export const MAX_WAITING_FOR_WORKER = 1024;

// Files and reload

/** How often the certificate files are looked at. Kubernetes takes a minute to project a secret: one second is prompt. */
export const RELOAD_POLL_MS = 1000;

/**
 * The deadline of one file access: a local one takes microseconds, a slow NFS server or a decrypting FIFO some hundred
 * milliseconds.
 */
export const FILE_DEADLINE_MS = 5000;

/** Concurrent file accesses: libuv has four threads, and DNS and the log need some while a file system hangs. */
export const MAX_FILE_WORK = 2;

/** The threads of libuv, by its default. With fewer, files and DNS that hang block all others. */
export const UV_THREADS_MIN = 4;

/**
 * The size of a configuration, certificate, CRL or token: the largest public CRLs have some 10 MB. Without a limit, a file
 * could exhaust memory.
 */
export const MAX_SETTING_FILE_BYTES = 64 * 1024 * 1024;

/** Bytes read beyond the size of a file: they detect the end, and files of /proc have size 0. */
export const FILE_SPARE_BYTES = 4096;

/** Aliases in a configuration. A correct file repeats a few paths by anchors; a thousandfold expansion is a mistake or an attack. */
export const MAX_YAML_ALIASES = 100;

/** The length of an invalid value in an error message: enough to find it in the file, and the message stays one line. */
export const MAX_SHOWN_VALUE_LENGTH = 80;

/** The longest time that a timer of Node can wait: 31 bits of milliseconds. A longer one fires immediately. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

// Log and metrics

/** Log lines are written together once they have this number of bytes, or after this time. */
export const LOG_BATCH_BYTES = 32 * 1024;
export const LOG_DELAY_MS = 20;

/** How long to wait before a log file is tried again that could not be written. */
export const LOG_RETRY_MS = 100;

/** Log bytes waiting for a slow log pipe; what exceeds them is dropped and counted. About 20 000 lines. */
export const MAX_LOG_QUEUE_BYTES = 8 * 1024 * 1024;

/**
 * The part of this queue that is reserved for warnings and errors, except those of calls: a flood of lines must not hide
 * its cause.
 */
export const RESERVED_LOG_BYTES = 2 * 1024 * 1024;

/** How long the last log lines may take to leave when the process ends. */
export const LOG_FLUSH_MS = 1000;

/** Audit lines are written together up to this number of bytes: about 100 lines. */
export const AUDIT_BATCH_BYTES = 64 * 1024;

/** How much of the end of an audit file is read to find its last lines; a line has at most some kilobytes. */
export const AUDIT_TAIL_BYTES = 64 * 1024;

/** How long audit lines may be in the memory of the kernel only: after a power failure, at most these are missing. */
export const AUDIT_SYNC_MS = 1000;

/** How long a write of audit lines may take until the file counts as one that cannot be written. */
export const AUDIT_STALL_MS = 5000;

/** How often the last hash of the audit log is written to the normal log, while audit lines are written. */
export const AUDIT_HEAD_MS = 600_000;

/** How often a failure to write audit lines is logged again. */
export const AUDIT_FAILURE_LOG_MS = 60_000;

/**
 * The part of a first message that is read for the repository of an audit line. Gitaly's requests have it at their beginning, and it
 * has some hundred bytes.
 */
export const MAX_AUDITED_MESSAGE_BYTES = 4096;

/** The longest line that is taken for one of an audit log: each field of a line is bounded. */
export const MAX_AUDIT_LINE_BYTES = 64 * 1024;

/** Hashes of each chain that a line of another chain may refer to: several processes rarely write to one file at once. */
export const AUDIT_RECENT_HASHES = 1024;

/** The size of a file with Gitaly's token, which has some ten bytes. */
export const MAX_TOKEN_FILE_BYTES = 64 * 1024;

/**
 * Methods per connection whose log fields are kept serialised: a client uses few methods on one connection, and one that uses
 * all of Gitaly's must not make a connection large.
 */
export const MAX_METHOD_LOGGERS = 16;

/** Log lines of failed calls per connection. A client without a token can cause thousands of them per second. */
export const FAILED_CALL_LINES = { burst: 1000, perSecond: 100 };

/** How often a connection's suppressed lines are reported. */
export const LEFT_OUT_LINES_MS = 1000;

/** Log lines of calls that were open when their connection ended; the connection's own line has most of the facts. */
export const MAX_CUT_CALL_LINES = 100;

/**
 * Log lines about unauthenticated clients per process: a burst shows what happens, and the rest adds up to about 500 MB per day at
 * most.
 */
export const UNAUTHENTICATED_LINES = { burst: 1000, perSecond: 10 };

/** Those about their calls and requests: one connection can cause thousands, and its own line, with the reason, comes last. */
export const UNAUTHENTICATED_CALL_LINES = { burst: 500, perSecond: 5 };

/** How often the lines that exceed this limit are reported. */
export const LEFT_OUT_SUMMARY_MS = 10_000;

/** Distinct addresses that such a report counts; more would be memory that strangers can fill. */
export const MAX_LEFT_OUT_SOURCES = 1000;

/** How often the log reports dropped connections of one listener: each line has the number of them, so that a flood is one line. */
export const DROP_LOG_MS = 10_000;

/** The length of a field of a log line, so that a client's certificate or ClientHello cannot fill a disk. */
export const MAX_LOG_FIELD_LENGTH = 8192;

/** The length of a value in a log line that a client chooses. Longer values are cut and end with `…`. */
export const MAX_LOGGED = {
  /** RFC 1035 section 2.3.4: the length of a domain name. */
  serverName: 255,
  /** The longest are messages of Gitaly, and paths of repositories. */
  auditField: 1024,
  /** The longest registered method has 17 characters. */
  method: 32,
  /** Paths of GitLab's API have some hundred characters. */
  path: 1024,
  /** It may quote names of a certificate. */
  detail: 1024,
  /** Those of Gitaly have at most 50 characters. */
  grpcName: 255,
  /** Errors of Gitaly quote the output of git. */
  grpcMessage: 1000,
};

/**
 * Methods that get a label of their own besides those known from the start (173): later versions of Gitaly add a few, and
 * 400 bounds the time series that all clients together can bring about.
 */
export const MAX_LEARNED_METHODS = 400;

/** The length of a method that gets a label of its own. Those of Gitaly have at most 80 characters. */
export const MAX_METHOD_PATH_LENGTH = 160;

// Admin port

/**
 * Connections of the admin port: more than any monitoring needs, within `RESERVED_DESCRIPTORS`. If another one is accepted, one of
 * the address with the most connections is closed.
 */
export const MAX_ADMIN_CONNECTIONS = 16;

/** Pipelined requests on one connection of the admin port; no scraper pipelines. */
export const MAX_ADMIN_PIPELINED = 64;

/** How long a client of the admin port may take to send a request. */
export const ADMIN_REQUEST_MS = 10_000;

/** How long a client of the admin port may take to read an answer: Prometheus limits a scrape to 10 s. */
export const ADMIN_ANSWER_MS = 30_000;

/** How long a connection of the admin port may wait for its next request: Prometheus scrapes every 60 s at the latest by default. */
export const ADMIN_KEEP_ALIVE_MS = 60_000;

/** Total size of the answers of the admin port that wait for slow clients: more than one page of the largest size. */
export const MAX_ADMIN_UNREAD_BYTES = 32 * 1024 * 1024;

/** The pause after each page of the admin port, as a multiple of the time it took: pages take at most a quarter of the time. */
export const ADMIN_PAUSE_RATIO = 3;

/** The maximum pause: a page that waited for a hung worker took a second, but did not occupy the event loop. */
export const ADMIN_PAUSE_MS_MAX = 500;

/** Entries of a page that are written in one turn of the event loop, in about a millisecond. */
export const ADMIN_ENTRIES_PER_TURN = 50;

/** How often the log reports requests that the admin port refuses. */
export const ADMIN_REFUSAL_LOG_MS = 10_000;

/** Connections or calls on one page of the admin port, unless `limit` asks for more: to write it holds all traffic up. */
export const STATUS_PAGE_ENTRIES = 1000;

/** The maximum of `limit`. Writing this number of entries takes about 100 ms, in which no traffic passes. */
export const STATUS_PAGE_ENTRIES_MAX = 10_000;

/** Calls and sidechannels shown per connection; `/-/rpcs` shows all. */
export const STATUS_PAGE_CONNECTION_RPCS = 100;

// Start and stop of the process

/** `systemd-notify` waits up to 5 s for systemd to take its message; one that takes longer is ended. */
export const NOTIFY_MS = 10_000;

/** The time that a drain may take beyond `graceful_restart_timeout`: connections are cut, workers end, the log is written. */
export const STOP_MARGIN_MS = 10_000;

/**
 * npm forwards Ctrl-C to the program that has had it from the terminal already, a few milliseconds later. A second
 * SIGINT within this time is the same one; no person presses that fast.
 */
export const SAME_INTERRUPT_MS = 50;

/** How long file and DNS work on libuv's threads may take when the process ends; it normally takes milliseconds. */
export const STUCK_THREAD_MS = 500;
export const END_POLL_MS = 5;

// Judging certificates

/** How many days before its end a certificate causes a warning: enough to order and to install another. */
export const CERTIFICATE_WARN_DAYS = 30;

/** How long before its end a CRL causes a warning: CAs replace a CRL hours to days before. */
export const CRL_WARN_BEFORE_MS = 24 * 60 * 60 * 1000;

/** The minimum size of an RSA key: that of OpenSSL at security level 2, the default of Debian, Ubuntu and OpenSSL 3.2. */
export const MIN_RSA_KEY_BITS = 2048;

/** Signature checks per chain, as in Go's crypto/x509. A normal chain needs one per certificate. */
export const MAX_SIGNATURE_CHECKS = 100;

/** Paths of a chain that are examined: two suffice for a cross-signed root, and each further twin on a level doubles them. */
export const MAX_CHAIN_PATHS = 64;

/** Comparisons of names with name constraints: a certificate may have thousands of names, and verifiers also limit this. */
export const MAX_NAME_COMPARISONS = 10_000;

/** Names of a certificate in a message: a certificate may have thousands. */
export const MAX_NAMES_SHOWN = 20;

// Other commands

/** Addresses that `check` takes: more than any GitLab has Gitalys are a typing error. */
export const MAX_CHECKED_ADDRESSES = 1000;

/** What `check` keeps of what a TLS server sends: a handshake comes to a few KiB, OpenSSL takes 100 of certificates. */
export const MAX_TAPPED_BYTES = 256 * 1024;

/**
 * How far ahead of now `check` dates a token that others could read on its way: it could be used until then. A quarter of an
 * hour finds a clock that drifts, but not one in another time zone.
 */
export const MAX_OPEN_TOKEN_AHEAD_MS = 15 * 60_000;

/** Concurrent calls by which `check` finds out the clock of Gitaly: few enough not to disturb it. */
export const CLOCK_CALLS_AT_ONCE = 8;

/** How long `certificates inspect` waits for a connection, and again for the handshake. */
export const FETCH_CHAIN_MS = 10_000;

/** Files and addresses that one `certificates inspect` takes: more are a pattern of the shell that matches too much. */
export const MAX_INSPECTED_PLACES = 1000;

/** The lifetime of a CA that `certificates create` makes: it is distributed to every node by hand, so rarely is better. */
export const AUTHORITY_DAYS = 3650;

/** The default lifetime of a certificate that `certificates create` issues, and the maximum, which is that of its CA. */
export const CERTIFICATE_DAYS = 365;
export const MAX_CERTIFICATE_DAYS = 3650;

/** How long before its issue such a certificate is valid, because the clocks of its readers differ. */
export const CERTIFICATE_BACKDATE_MS = 5 * 60_000;

/** The keys of an assignment in gitlab.rb: `gitaly['configuration']['tls']['key_path']` has four. */
export const MAX_RUBY_KEYS = 16;

/** Interpolations within interpolations in gitlab.rb; files have at most two. */
export const MAX_RUBY_INTERPOLATIONS = 20;

/** Hashes within arrays within hashes in gitlab.rb; a configuration has four levels. */
export const MAX_RUBY_DEPTH = 64;

/** The lifetime of the demo's certificates, which are made again at each start. */
export const DEMO_CERTIFICATE_MS = 24 * 60 * 60 * 1000;

/** Connections per listener of the demo: it is tried by one person. */
export const DEMO_CONNECTIONS = 1000;

/** How long the demo waits for its own health call: its processes have just started. */
export const DEMO_CALL_MS = 10_000;
