import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { z } from 'zod';

import { STATUS_CODES } from '../../../src/inspect/grpc/grpc-status.js';

const FOLDER = new URL('../../data/captures/', import.meta.url);

/** The captures that there are. */
export const CAPTURES = ['http2', 'http2-cut', 'backchannel', 'backchannel-cut'] as const;

const sender = z.enum(['client', 'server']);
const traffic = z.strictObject({ messages: z.int(), bytes: z.int(), compressed: z.int() });
const account = z.strictObject({ code: z.enum(STATUS_CODES), sent: traffic, received: traffic });
const moved = z.strictObject({ sent: z.int(), received: z.int() });

const recorded = z.strictObject({
  protocol: z.enum(['http2', 'backchannel']),
  calls: z.array(
    z.strictObject({
      id: z.string(),
      method: z.string(),
      direction: z.enum(['to_upstream', 'to_client']),
      /** What ended it; empty where the server's status did. */
      end: z.enum(['', 'cancel', 'deadline', 'reset', 'kill']),
      client: account,
      server: account,
    }),
  ),
  sidechannels: z.array(z.strictObject({ id: z.string(), client: moved, server: moved })),
});

const chunk = z.strictObject({ from: sender, at: z.number(), bytes: z.base64() });

/** The calls that were made on a connection, as both ends counted them. */
export type RecordedCalls = z.infer<typeof recorded>;

/** What one read of the tap gave. */
export interface Chunk {
  readonly from: z.infer<typeof sender>;
  /** Milliseconds. */
  readonly at: number;
  readonly bytes: Buffer;
}

/** One connection: its bytes in the order in which they passed, and its calls. */
export interface Capture {
  readonly recorded: RecordedCalls;
  readonly chunks: readonly Chunk[];
}

/** Reads a capture that `test/interop/record` has made. */
export function readCapture(name: (typeof CAPTURES)[number]): Capture {
  const lines = gunzipSync(readFileSync(new URL(`${name}.jsonl.gz`, FOLDER)))
    .toString('utf8')
    .trimEnd()
    .split('\n');
  return {
    recorded: recorded.parse(JSON.parse(readFileSync(new URL(`${name}.calls.json`, FOLDER), 'utf8'))),
    chunks: lines.map((line) => {
      const { from, at, bytes } = chunk.parse(JSON.parse(line));
      return { from, at, bytes: Buffer.from(bytes, 'base64') };
    }),
  };
}
