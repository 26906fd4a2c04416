import { expect, test } from 'vitest';

import { AnswerWatch } from '../../src/connection/answer-watch.js';
import { inspectConnection } from '../../src/inspect/connection-inspector.js';
import { CLIENT_PREFACE } from '../../src/inspect/http2/http2-frame.js';
import { CALL_SERVED_MS } from '../../src/limits.js';
import { block, DATA, END_HEADERS, frame, HEADERS, SETTINGS } from '../support/http2-frames.js';

/** A client whose call has begun, and what looks at it. */
function begin(): {
  send: (bytes: Buffer) => void;
  isAnsweredAt: (nowMs: number, isClientReading?: boolean) => boolean;
} {
  let isAnswered = false;
  const watch = new AnswerWatch(
    {
      started: () => ({ moved: () => undefined, ended: () => undefined, lost: () => undefined }),
      sidechannelOpened: () => {
        throw new Error('there is no sidechannel here');
      },
    },
    () => (isAnswered = true),
  );
  const inspector = inspectConnection('http2', watch);
  const send = (bytes: Buffer): void => {
    expect(inspector.read('client', bytes, 0, bytes.length, 0)).toBeUndefined();
  };
  const call = Buffer.concat([
    Buffer.from([0x83]),
    block({ ':path': '/gitaly.RefService/FindBranch', 'content-type': 'application/grpc' }),
  ]);
  send(Buffer.concat([CLIENT_PREFACE, frame(SETTINGS, 0, 0), frame(HEADERS, END_HEADERS, 1, call)]));
  return {
    send,
    isAnsweredAt: (nowMs, isClientReading = true) => {
      watch.look(inspector.connections, nowMs, isClientReading);
      return isAnswered;
    },
  };
}

/** A message of three bytes. */
const MESSAGE = Buffer.from([0, 0, 0, 0, 3, 1, 2, 3]);

test('a call without a complete message is never taken for one that is being served', () => {
  const { send, isAnsweredAt } = begin();
  expect(isAnsweredAt(CALL_SERVED_MS + 1)).toBe(false);
  send(frame(DATA, 0, 1, MESSAGE.subarray(0, 6)));
  expect(isAnsweredAt(3 * CALL_SERVED_MS)).toBe(false);
  expect(isAnsweredAt(5 * CALL_SERVED_MS)).toBe(false);
});

test('a call that is not refused for CALL_SERVED_MS after its first message is being served', () => {
  const { send, isAnsweredAt } = begin();
  send(frame(DATA, 0, 1, MESSAGE));
  expect(isAnsweredAt(10 * CALL_SERVED_MS)).toBe(false);
  expect(isAnsweredAt(11 * CALL_SERVED_MS)).toBe(false);
  expect(isAnsweredAt(11 * CALL_SERVED_MS + 1)).toBe(true);
});

test('time in which the client does not read does not count, because refusals cannot be seen', () => {
  const { send, isAnsweredAt } = begin();
  send(frame(DATA, 0, 1, MESSAGE));
  expect(isAnsweredAt(0)).toBe(false);
  expect(isAnsweredAt(2 * CALL_SERVED_MS, false)).toBe(false);
  expect(isAnsweredAt(3 * CALL_SERVED_MS)).toBe(false);
  expect(isAnsweredAt(3 * CALL_SERVED_MS + 1)).toBe(true);
});
