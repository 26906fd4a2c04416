import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { MAX_QUEUED_BYTES } from '../../src/limits.js';
import { chainOf, type Tap } from '../../src/connection/relay/tap.js';
import { noise } from '../support/noise.js';
import { flood, receive, send, sha256, transfers, untilQuiet, type Transfer } from './byte-streams.js';
import { endOf, readBytes, startRelay, type RelayUnderTest, type Transport } from './relay-ends.js';

const TRANSPORTS: readonly { client: Transport; upstream: Transport }[] = [
  { client: 'tcp', upstream: 'tcp' },
  { client: 'tls1.3', upstream: 'tcp' },
  { client: 'tls1.2', upstream: 'unix' },
  { client: 'unix', upstream: 'tls1.3' },
  { client: 'tcp', upstream: 'tls1.2' },
  { client: 'unix', upstream: 'unix' },
];

/** Runs a transfer each way at once and expects every byte of both. */
async function exchange(
  { relay, client, backend, ends }: RelayUnderTest,
  up: Transfer,
  down: Transfer,
): Promise<void> {
  const [sentUp, sentDown, receivedUp, receivedDown] = await Promise.all([
    send(client.stream, up),
    send(backend.stream, down),
    receive(backend.stream, up),
    receive(client.stream, down),
  ]);
  expect(receivedUp).toBe(sentUp);
  expect(receivedDown).toBe(sentDown);
  expect((await endOf({ relay, client, backend, ends })).reason).toBe('finished');
}

describe.each(TRANSPORTS)('bytes between a $client client and a $upstream upstream', (transports) => {
  test('any slicing of any stream arrives equal, both ways at once', async () => {
    await fc.assert(
      fc.asyncProperty(transfers(400_000), transfers(400_000), async (up, down) => {
        await exchange(await startRelay(transports), up, down);
      }),
      { numRuns: 8 },
    );
  });

  test('some MiB arrive equal though both readers are slow', async () => {
    const long = { slices: [100_000, 3, 16_384], oneByOne: false };
    await exchange(
      await startRelay(transports),
      { ...long, bytes: 3 << 20, seed: 1, reads: [1, 9000, 30_000] },
      { ...long, bytes: 4 << 20, seed: 2, reads: [1, 50_000] },
    );
  });
});

describe.each<Transport>(['tcp', 'unix', 'tls1.2', 'tls1.3'])(
  'the one read buffer of an upstream, used again and again for a %s client',
  (transport) => {
    test('changes no byte that waits for clients that do not read', async () => {
      // Several at once: TLS clients' upstreams share one buffer.
      const relays: RelayUnderTest[] = [];
      for (let count = 0; count < 3; count++)
        relays.push(await startRelay({ client: transport, upstream: count === 0 ? 'unix' : 'tcp' }));
      const streams = relays.map((_relay, index) => noise(12 << 20, index));
      for (const [index, { backend }] of relays.entries()) {
        backend.stream.write(streams[index] ?? '');
        backend.stream.end();
      }
      const moved = (): number => relays.reduce((sum, { relay }) => sum + relay.movement, 0);
      await untilQuiet(moved);
      for (const { ends } of relays) {
        // The kernel takes no more: a view waits in the sink, maybe a copy of what came behind it, and no more is read.
        expect(ends.client.stream.writableLength).toBeGreaterThan(0);
        expect(ends.client.stream.writableLength).toBeLessThanOrEqual(MAX_QUEUED_BYTES);
      }
      const received = await Promise.all(
        relays.map(async ({ client }, index) => readBytes(client.stream, streams[index]?.length ?? 0)),
      );
      expect(received.map(sha256)).toEqual(streams.map(sha256));
      for (const tested of relays) {
        tested.client.stream.end().resume();
        expect((await endOf(tested)).reason).toBe('finished');
      }
    });
  },
);

describe.each(TRANSPORTS)('a sink that does not read: $client client, $upstream upstream', (transports) => {
  test.each(['to_upstream', 'to_client'] as const)('%s', async (direction) => {
    const tested = await startRelay(transports);
    const { client, backend, ends, relay } = tested;
    const [sender, sink] =
      direction === 'to_upstream'
        ? [client.stream, ends.upstream.stream]
        : [backend.stream, ends.client.stream];
    let most = 0;
    flood(sender);
    await untilQuiet(
      () => relay.movement,
      () => (most = Math.max(most, sink.writableLength)),
    );
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(MAX_QUEUED_BYTES);
    client.raw.destroy();
    backend.raw.destroy();
    await endOf(tested);
  });
});

test.each(['tcp', 'tls1.3'] as const)(
  'what a client sent before the relay began is the first that a %s upstream gets',
  async (upstream) => {
    const tested = await startRelay({ client: 'tcp', upstream }, {}, Buffer.from('preface '));
    tested.client.stream.write('and more');
    expect((await readBytes(tested.backend.stream, 16)).toString()).toBe('preface and more');
  },
);

test('a tap sees every byte, before it is written', async () => {
  const seen = { to_upstream: '', to_client: '' };
  const tap: Tap = {
    pass: (direction, bytes) => {
      seen[direction] += Buffer.from(bytes).toString();
      return bytes;
    },
  };
  const tested = await startRelay({ client: 'tls1.3', upstream: 'tcp' }, { tap }, Buffer.from('head '));
  tested.client.stream.write('request');
  await readBytes(tested.backend.stream, 12);
  tested.backend.stream.write('response');
  await readBytes(tested.client.stream, 8);
  expect(seen).toEqual({ to_upstream: 'head request', to_client: 'response' });
});

test.each(['tcp', 'tls1.3'] as const)(
  'taps drop, insert and replace bytes of a %s client, and every byte is accounted for',
  async (client) => {
    const editing: Tap = {
      pass: (direction, bytes) => {
        if (direction === 'to_client') return Buffer.concat([Buffer.from('>'), bytes]);
        return bytes.includes('secret') ? undefined : bytes;
      },
    };
    const upperCase: Tap = {
      pass: (direction, bytes) =>
        direction === 'to_client' ? bytes : Buffer.from(bytes.toString().toUpperCase()),
    };
    const tested = await startRelay({ client, upstream: 'tcp' }, { tap: chainOf([editing, upperCase]) });
    tested.client.stream.write('secret');
    await untilQuiet(() => tested.relay.movement);
    tested.client.stream.write('open');
    expect((await readBytes(tested.backend.stream, 4)).toString()).toBe('OPEN');
    tested.backend.stream.write('answer');
    expect((await readBytes(tested.client.stream, 7)).toString()).toBe('>answer');
    tested.relay.insert('to_client', Buffer.from('goodbye'));
    expect((await readBytes(tested.client.stream, 7)).toString()).toBe('goodbye');
    expect(tested.relay.balance('to_upstream')).toEqual({ read: 10, edited: -6, written: 4 });
    expect(tested.relay.balance('to_client')).toEqual({ read: 6, edited: 8, written: 14 });
    tested.client.stream.end().resume();
    tested.backend.stream.end().resume();
    await endOf(tested);
  },
);
