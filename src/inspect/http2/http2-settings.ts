/** The settings that are needed to follow their receiver (RFC 9113 section 6.5.2). */
export interface Settings {
  /** SETTINGS_HEADER_TABLE_SIZE, bytes. */
  readonly headerTableBytes: number | undefined;
  /** SETTINGS_INITIAL_WINDOW_SIZE, bytes. */
  readonly initialWindowBytes: number | undefined;
}

const SETTING_BYTES = 6;
const HEADER_TABLE_SIZE = 1;
const INITIAL_WINDOW_SIZE = 4;

/** Reads the payload of a SETTINGS frame; `undefined` if it is malformed. */
export function readSettings(bytes: Buffer, start: number, end: number): Settings | undefined {
  // "A SETTINGS frame with a length other than a multiple of 6 octets MUST be treated as a connection error".
  if ((end - start) % SETTING_BYTES !== 0) return undefined;
  let headerTableBytes: number | undefined;
  let initialWindowBytes: number | undefined;
  for (let offset = start; offset < end; offset += SETTING_BYTES) {
    const identifier = bytes.readUInt16BE(offset);
    const value = bytes.readUInt32BE(offset + 2);
    if (identifier === HEADER_TABLE_SIZE) headerTableBytes = value;
    if (identifier === INITIAL_WINDOW_SIZE) {
      // "Values above the maximum flow-control window size of 2^31-1 MUST be treated as a connection error".
      if (value > 0x7fff_ffff) return undefined;
      initialWindowBytes = value;
    }
  }
  return { headerTableBytes, initialWindowBytes };
}
