import { expect, onTestFinished, test, vi } from 'vitest';

import { FollowedCalls } from '../../src/connection/followed-calls.js';
import { CallPool } from '../../src/inspect/call-pool.js';
import { JudgedFields } from '../../src/inspect/grpc/fields.js';
import { ABUSE_LIMITS, DRAIN_PING_MS, DRAINED_LINGER_MS, MAX_UNREAD_ANSWER_BYTES } from '../../src/limits.js';
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

/** `refusing`: all calls are refused, and this number of bytes waits for the client. */
function follow(
  protocol: 'http2' | 'backchannel',
  refusing?: { readonly waiting: number },
): { calls: FollowedCalls; drained: () => number; refusals: readonly (string | undefined)[] } {
  const refusals: (string | undefined)[] = [];
  const refusal = { kind: 'refuse', code: 7, message: 'not allowed' } as const;
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
          if (!refusing) throw new Error(reason);
        },
      },
      share: new CallPool(10).share(undefined, 10),
      judging: refusing && { judge: { judge: () => refusal }, fields: new JudgedFields([]) },
    },
    {
      answered: () => undefined,
      insert: () => refusing?.waiting ?? 0,
      refuse: ({ detail }) => {
        if (!refusing) throw new Error(detail);
        refusals.push(detail);
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
  return { calls, drained: () => drained, refusals };
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

test.each(['http2', 'backchannel'] as const)(
  'a client that makes refused calls and does not read the answers is closed: %s',
  (protocol) => {
    const settings = HTTP2_PREFACE.subarray(-9);
    const wrapped = (bytes: Buffer): Buffer => (protocol === 'http2' ? bytes : yamux(bytes));
    for (const [waiting, expected] of [
      [MAX_UNREAD_ANSWER_BYTES, []],
      [MAX_UNREAD_ANSWER_BYTES + 1, ['refused_flood']],
    ] as const) {
      const { calls, refusals } = follow(protocol, { waiting });
      if (protocol === 'backchannel') calls.pass('to_upstream', BACKCHANNEL_PREFACE);
      calls.pass('to_upstream', wrapped(HTTP2_PREFACE));
      calls.pass('to_client', protocol === 'http2' ? settings : ACCEPTED);
      calls.pass('to_upstream', wrapped(http2(END_HEADERS | END_STREAM, 1, REQUEST)));
      expect(refusals).toEqual(expected);
    }
  },
);
