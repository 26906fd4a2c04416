import type { Sender } from '../sender.js';

/** The values of a header block by the number of their name (`FieldNames`); what did not come is undefined. */
export type FieldValues = readonly (string | undefined)[];

/**
 * Follows one stream. Each of its calls comes in the order of the wire; `ended` and `reset` once a sender at most, and
 * `cut` instead of what would have followed.
 */
export interface StreamObserver {
  /** A header block was read whole: the first of its sender, or trailers. `values` is used again after the call. */
  headers(sender: Sender, values: FieldValues, nowMs: number): void;
  /** Payload of DATA without its padding; a view that is used again after the call. */
  data(sender: Sender, bytes: Buffer, start: number, end: number): void;
  /** END_STREAM. */
  ended(sender: Sender, nowMs: number): void;
  /** RST_STREAM with this error code: the stream is over. */
  reset(sender: Sender, errorCode: number, nowMs: number): void;
  /**
   * The stream is over without an end of its own: `refused` by a GOAWAY that named a lower one as the last, `connection`
   * with its connection, `lost` because the inspector could not follow any further.
   */
  cut(why: 'refused' | 'connection' | 'lost', nowMs: number): void;
}
