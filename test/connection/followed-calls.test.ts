import { expect, onTestFinished, test, vi } from 'vitest';

import { FollowedCalls } from '../../src/connection/followed-calls.js';
import { CallPool } from '../../src/inspect/call-pool.js';
import { ABUSE_LIMITS, DRAIN_PING_MS, DRAINED_LINGER_MS } from '../../src/limits.js';
import { BACKCHANNEL_PREFACE, HTTP2_PREFACE } from '../support/clients.js';

const HEADERS = 1;
const END_HEADERS = 4;
const END_STREAM = 1;
const PATH = '/gitaly.CommitService/FindCommit';
/** The headers of a request, and of an answer that is nothing else. */
const REQUEST = Buffer.concat([
  Buffer.from([0, 5]),
  Buffer.from(':path'),
  Buffer.from([PATH.length]),
  Buffer.from(PATH),
]);
const ANSWER = Buffer.of(0x88);

function http2(flags: number, streamId: number, block: Buffer): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(block.length, 0, 3);
  header.writeUInt8(HEADERS, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, block]);
}

/** Data of yamux on its first stream. */
function yamux(payload: Buffer): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt32BE(1, 4);
  header.writeUInt32BE(payload.length, 8);
  return Buffer.concat([header, payload]);
}

/** A yamux server accepts the first stream, and its HTTP/2 begins with SETTINGS. */
const ACCEPTED = Buffer.concat([
  Buffer.from([0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]),
  yamux(HTTP2_PREFACE.subarray(-9)),
]);

function follow(protocol: 'http2' | 'backchannel'): { calls: FollowedCalls; drained: () => number } {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  let drained = 0;
  const calls = new FollowedCalls(
    {
      protocol,
      mode: 'on',
      limits: ABUSE_LIMITS,
      prefaceMs: 10_000,
      drainPingMs: DRAIN_PING_MS,
      peer: {
        upstream: 'the upstream',
        peerAddress: 'the client',
        identity: undefined,
        observed: undefined,
        isAuthenticated: () => true,
      },
      events: {
        inspecting: () => ({
          started: () => ({ moved: () => undefined, ended: () => undefined, lost: () => undefined }),
          sidechannelOpened: () => {
            throw new Error('there is no sidechannel here');
          },
        }),
        inspectorLost: (reason) => {
          throw new Error(reason);
        },
      },
      share: new CallPool(10).share(undefined, 10),
      judging: undefined,
    },
    {
      answered: () => undefined,
      insert: () => undefined,
      refuse: ({ detail }) => {
        throw new Error(detail);
      },
      drained: () => drained++,
      fault: (error) => {
        throw error;
      },
    },
  );
  onTestFinished(() => {
    calls.end();
    vi.useRealTimers();
  });
  return { calls, drained: () => drained };
}

test('a backchannel whose drain begins before its first bytes pass ends when the call in them has', () => {
  const { calls, drained } = follow('backchannel');
  calls.drain();
  calls.pass(
    'to_upstream',
    Buffer.concat([
      BACKCHANNEL_PREFACE,
      yamux(Buffer.concat([HTTP2_PREFACE, http2(END_HEADERS | END_STREAM, 1, REQUEST)])),
    ]),
  );
  vi.advanceTimersByTime(DRAINED_LINGER_MS);
  expect(drained()).toBe(0);
  calls.pass('to_client', Buffer.concat([ACCEPTED, yamux(http2(END_HEADERS | END_STREAM, 1, ANSWER))]));
  vi.advanceTimersByTime(1);
  expect(drained()).toBe(1);
});

test('a call that begins on a backchannel in the turn in which its drain is over ends before it does', () => {
  const { calls, drained } = follow('backchannel');
  calls.pass('to_upstream', Buffer.concat([BACKCHANNEL_PREFACE, yamux(HTTP2_PREFACE)]));
  calls.pass('to_client', ACCEPTED);
  calls.drain();
  calls.pass('to_upstream', yamux(http2(END_HEADERS | END_STREAM, 1, REQUEST)));
  vi.advanceTimersByTime(DRAINED_LINGER_MS);
  expect(drained()).toBe(0);
  calls.pass('to_client', yamux(http2(END_HEADERS | END_STREAM, 1, ANSWER)));
  vi.advanceTimersByTime(1);
  expect(drained()).toBe(1);
});
