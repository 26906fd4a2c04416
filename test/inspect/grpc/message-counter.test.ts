import fc from 'fast-check';
import { expect, test } from 'vitest';

import { MessageCounter } from '../../../src/inspect/grpc/message-counter.js';

function encode({ flag, payload }: { flag: number; payload: Uint8Array }): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(payload.length, 1);
  return Buffer.concat([prefix, payload]);
}

test('messages are counted however their bytes are sliced', () => {
  const message = fc.record({ flag: fc.constantFrom(0, 1), payload: fc.uint8Array({ maxLength: 300 }) });
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 20 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 100 })),
      (messages, sizes) => {
        const bytes = Buffer.concat(messages.map(encode));
        const counter = new MessageCounter();
        for (let offset = 0; offset < bytes.length;) {
          const end = Math.min(offset + Number(sizes.next().value), bytes.length);
          counter.count(bytes, offset, end);
          offset = end;
        }
        expect(counter).toMatchObject({
          messages: messages.length,
          compressed: messages.filter(({ flag }) => flag === 1).length,
          payloadBytes: messages.reduce((sum, { payload }) => sum + payload.length, 0),
          atBoundary: true,
        });
      },
    ),
  );
});

test('a length that uses all 32 bits is one message, not whole yet', () => {
  const counter = new MessageCounter();
  const bytes = Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
  counter.count(bytes, 0, bytes.length);
  expect(counter).toMatchObject({ messages: 1, payloadBytes: 3, atBoundary: false });
});
