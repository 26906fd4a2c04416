/** RFC 9113 section 6; what has no name here is unknown and skipped (section 4.1). */
export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Bits of the flags octet; a bit means different things in different types. */
export const Flag = {
  endStream: 0x01,
  ack: 0x01,
  endHeaders: 0x04,
  padded: 0x08,
  priority: 0x20,
} as const;

/** RFC 9113 section 4.1: length (24 bits), type, flags, stream identifier (31 bits). */
export const FRAME_HEADER_BYTES = 9;

/** Section 6.7: the opaque data of a PING. */
export const PING_BYTES = 8;

/** RFC 9113 section 3.4: what a client sends first. */
export const CLIENT_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** RFC 9113 section 7: the codes that are used here. */
export const ErrorCode = {
  none: 0,
  protocol: 1,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  enhanceYourCalm: 11,
  inadequateSecurity: 12,
} as const;
