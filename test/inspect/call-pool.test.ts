import { expect, test } from 'vitest';

import { CallPool, type CallShare } from '../../src/inspect/call-pool.js';
import { GrpcCall } from '../../src/inspect/grpc/call.js';
import { SendWindow } from '../../src/inspect/send-window.js';

function takeAll(share: CallShare): { taken: number; refusal: string } {
  for (let taken = 0; ; taken++) {
    const refusal = share.take();
    if (refusal !== undefined) return { taken, refusal };
  }
}

test('a connection follows half of the pool at most, two a third each, and another connection finds room', () => {
  const pool = new CallPool(1200);
  expect(takeAll(pool.share(1))).toEqual({ taken: 600, refusal: 'call_budget' });
  expect(takeAll(pool.share(2))).toEqual({ taken: 300, refusal: 'call_budget' });
  expect(pool.share(3).take()).toBeUndefined();
});

test('a connection has a bound of its own, however large the pool is', () => {
  const pool = new CallPool(1e9);
  expect(takeAll(pool.share(1, 70))).toEqual({ taken: 70, refusal: 'too_many_streams' });
});

test('what is given back may be taken again', () => {
  const pool = new CallPool(2);
  const share = pool.share(1);
  expect(takeAll(share).taken).toBe(1);
  share.giveBack();
  expect(takeAll(share).taken).toBe(1);
});

test('nothing is followed anew while memory is low', () => {
  let isLow = true;
  const share = new CallPool(100, () => isLow).share(1);
  expect(share.take()).toBe('call_budget');
  isLow = false;
  expect(share.take()).toBeUndefined();
});

test('calls are known with their owners, the oldest first, in whatever order they end', () => {
  const pool = new CallPool<string>(100);
  const shares = ['one', 'two'].map((owner) => pool.share(owner));
  const begin = (which: number, streamId: number) => {
    const share = shares[which];
    if (!share || share.take()) throw new Error('no room');
    const windows = { client: new SendWindow(1), server: new SendWindow(1) };
    const events = {
      started: () => ({ moved: () => undefined, ended: () => undefined, lost: () => undefined }),
    };
    const context = { protocol: 'http2', direction: 'to_upstream' } as const;
    return share.add(new GrpcCall(streamId, context, windows, events));
  };
  const known = () => [...pool.oldest()].map(({ call, owner }) => `${owner} ${call.streamId}`);
  const calls = [begin(0, 1), begin(1, 1), begin(0, 3), begin(1, 3)];
  expect(known()).toEqual(['one 1', 'two 1', 'one 3', 'two 3']);
  for (const [end, left] of [
    [1, ['one 1', 'one 3', 'two 3']],
    [3, ['one 1', 'one 3']],
    [0, ['one 3']],
    [2, []],
  ] as const) {
    const call = calls[end];
    if (call) shares[end % 2]?.remove(call);
    expect(known()).toEqual(left);
    expect(pool.size).toBe(left.length);
  }
  expect(pool.free).toBe(100);
});
