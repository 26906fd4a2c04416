import { once } from 'node:events';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { ConnectionEnd } from '../../src/connection/connection-end.js';
import { Relay } from '../../src/connection/relay/relay.js';
import type { Tap } from '../../src/connection/relay/tap.js';
import { noise } from '../support/noise.js';
import { flood, sha256, turn, untilQuiet } from './byte-streams.js';
import { endOf, fateOf, readBytes, RELAY_OPTIONS, startRelay, type Transport } from './relay-ends.js';

const TRANSPORTS: readonly { client: Transport; upstream: Transport }[] = [
  { client: 'tcp', upstream: 'tcp' },
  { client: 'tls1.3', upstream: 'tcp' },
  { client: 'tls1.2', upstream: 'unix' },
  { client: 'tcp', upstream: 'tls1.3' },
  { client: 'unix', upstream: 'tls1.2' },
  { client: 'unix', upstream: 'unix' },
];
/** Only TCP knows resets. */
const OVER_TCP = TRANSPORTS.filter(({ client, upstream }) => client !== 'unix' && upstream !== 'unix');

/** The far ends in the roles that a test gives them. */
const SIDES = ['client', 'upstream'] as const;

describe.each(TRANSPORTS)('half-close, $client client and $upstream upstream', (transports) => {
  test.each(SIDES)(
    'the %s finishes first; the other side may send for as long as it needs',
    async (first) => {
      const tested = await startRelay(transports);
      const [one, other] =
        first === 'client'
          ? [tested.client.stream, tested.backend.stream]
          : [tested.backend.stream, tested.client.stream];
      one.end('the last word');
      expect((await readBytes(other, 13)).toString()).toBe('the last word');
      const ended = once(other, 'end');
      other.resume();
      await ended;
      const answer = noise(1 << 20);
      const received = readBytes(one, answer.length);
      other.end(answer);
      expect(sha256(await received)).toBe(sha256(answer));
      one.resume();
      expect(await endOf(tested)).toMatchObject({ reason: 'finished', initiator: first });
    },
  );

  test.each(SIDES)(
    'the %s finishes and takes its time to read; nothing of what is sent to it is lost',
    async (first) => {
      const tested = await startRelay(transports);
      const [one, other] =
        first === 'client'
          ? [tested.client.stream, tested.backend.stream]
          : [tested.backend.stream, tested.client.stream];
      one.end();
      other.resume();
      await once(other, 'end');
      const answer = noise(12 << 20);
      other.end(answer);
      await untilQuiet(() => tested.relay.movement);
      expect(sha256(await readBytes(one, answer.length))).toBe(sha256(answer));
      one.resume();
      expect(await endOf(tested)).toMatchObject({ reason: 'finished', initiator: first });
    },
  );
});

describe.each(OVER_TCP)('reset, $client client and $upstream upstream', (transports) => {
  test.each(SIDES)('by the %s becomes a reset of the other', async (side) => {
    const tested = await startRelay(transports);
    const [resets, hears] =
      side === 'client' ? [tested.client, tested.backend] : [tested.backend, tested.client];
    resets.stream.write('half a message');
    await readBytes(hears.stream, 14);
    const fate = fateOf(hears);
    hears.stream.resume();
    resets.raw.resetAndDestroy();
    expect(await fate).toBe('ECONNRESET');
    expect(await endOf(tested)).toMatchObject({ reason: 'reset', initiator: side });
  });

  test.each(SIDES)('a reset by the %s while its socket is not read is not an orderly end', async (side) => {
    const tested = await startRelay(transports);
    const [resets, hears] =
      side === 'client' ? [tested.client, tested.backend] : [tested.backend, tested.client];
    flood(resets.stream);
    await untilQuiet(() => tested.relay.movement);
    const fate = fateOf(hears);
    resets.raw.resetAndDestroy();
    hears.stream.resume();
    expect(await fate).toBe('ECONNRESET');
    expect(await endOf(tested)).toMatchObject({ reason: 'reset', initiator: side });
  });

  test.each(SIDES)('a reset by the %s while neither socket is read is not an orderly end', async (side) => {
    const tested = await startRelay(transports);
    const [resets, hears] =
      side === 'client' ? [tested.client, tested.backend] : [tested.backend, tested.client];
    flood(resets.stream);
    flood(hears.stream);
    await untilQuiet(() => tested.relay.movement);
    const fate = fateOf(hears);
    resets.raw.resetAndDestroy();
    hears.stream.resume();
    expect(await fate).toMatch(/ECONNRESET|EPIPE/);
    expect(await endOf(tested)).toMatchObject({ reason: 'reset', initiator: side });
  });

  test('cut breaks both sides off', async () => {
    const tested = await startRelay(transports);
    // A backend that still writes its session tickets would learn of the reset there, and not tell.
    tested.backend.stream.write('hello');
    await readBytes(tested.client.stream, 5);
    const fates = [fateOf(tested.client), fateOf(tested.backend)];
    tested.client.stream.resume();
    tested.backend.stream.resume();
    tested.relay.cut(new ConnectionEnd('drain_timeout', 'proxy', 'enough'));
    tested.relay.cut(new ConnectionEnd('idle_timeout', 'proxy', 'too late to count'));
    expect(await Promise.all(fates)).toEqual(['ECONNRESET', 'ECONNRESET']);
    expect(await endOf(tested)).toMatchObject({ reason: 'drain_timeout', detail: 'enough' });
  });

  test.each(SIDES)('of the %s before the relay begins ends it at once', async (side) => {
    const tested = await startRelay(transports);
    tested.relay.cut(new ConnectionEnd('idle_timeout', 'proxy'));
    await endOf(tested);
    const fresh = await startRelay(transports);
    const ends = {
      client: side === 'client' ? tested.ends.client : fresh.ends.client,
      upstream: side === 'upstream' ? tested.ends.upstream : fresh.ends.upstream,
    };
    const head = Buffer.from('never written');
    const relay = new Relay({ ...ends.client, head }, ends.upstream, RELAY_OPTIONS);
    relay.start();
    if (side === 'upstream')
      expect(await relay.done).toMatchObject({ failure: { reason: 'reset' }, sent: head });
    else expect(await endOf({ ...fresh, relay, ends })).toMatchObject({ reason: 'reset', initiator: side });
  });
});

test.each([
  { client: 'tcp', upstream: 'tcp' },
  { client: 'tls1.3', upstream: 'tcp' },
  { client: 'unix', upstream: 'unix' },
] as const)(
  'an end of a $client client passes though the client does not read what it is sent',
  async (transports) => {
    const tested = await startRelay(transports);
    flood(tested.backend.stream);
    await untilQuiet(() => tested.relay.movement);
    const ended = once(tested.backend.stream, 'end');
    tested.backend.stream.resume();
    tested.client.stream.end();
    const passed = await Promise.race([
      ended.then(() => true),
      untilQuiet(() => tested.relay.movement).then(() => false),
    ]);
    expect(passed).toBe(true);
  },
);

describe.each(['tcp', 'tls1.2', 'tls1.3'] as const)(
  'an upstream that must send first, over %s',
  (upstream) => {
    const head = Buffer.from('a request');

    test.each([
      ['resets the connection', 'reset'],
      ['closes it', 'closed'],
    ] as const)('and %s can be answered for, though the client has finished', async (how, reason) => {
      const tested = await startRelay({ client: 'tls1.3', upstream }, { firstByteMs: 60_000 }, head);
      const { client, backend, relay, ends } = tested;
      const finished = once(backend.stream, 'end');
      client.stream.end(', all of it');
      const received = await readBytes(backend.stream, 20);
      backend.stream.resume();
      await finished;
      if (how === 'closes it') backend.stream.end();
      else backend.raw.resetAndDestroy();
      expect(await relay.done).toMatchObject({ failure: { reason }, sent: received });
      expect(ends.client.stream.writable).toBe(true);
      const ended = readBytes(client.stream, 6);
      ends.client.stream.end('answer');
      expect(String(await ended)).toBe('answer');
    });
  },
);

describe('a tap that throws', () => {
  test.each(['to_upstream', 'to_client'] as const)('%s ends that relay alone', async (direction) => {
    const tap: Tap = {
      pass: (seen, bytes) => {
        if (seen === direction && Buffer.from(bytes).includes('poison')) throw new Error('cannot follow');
        return bytes;
      },
    };
    const options = { tap };
    const sick = await startRelay({ client: 'tls1.3', upstream: 'tcp' }, options);
    const well = await startRelay({ client: 'tls1.3', upstream: 'tcp' }, options);
    const fates = [fateOf(sick.client), fateOf(sick.backend)];
    sick.client.stream.resume();
    sick.backend.stream.resume();
    const [sickSender, wellSender, wellReader] =
      direction === 'to_upstream'
        ? [sick.client.stream, well.client.stream, well.backend.stream]
        : [sick.backend.stream, well.backend.stream, well.client.stream];
    sickSender.write('poison');
    wellSender.write('medicine');
    const end = await endOf(sick);
    expect(end).toMatchObject({ reason: 'internal_error', initiator: 'proxy' });
    expect(end.detail).toContain('cannot follow');
    expect(await Promise.all(fates)).toEqual(['ECONNRESET', 'ECONNRESET']);
    expect((await readBytes(wellReader, 8)).toString()).toBe('medicine');
    wellSender.write(' and more');
    expect((await readBytes(wellReader, 9)).toString()).toBe(' and more');
    well.client.stream.end().resume();
    well.backend.stream.end().resume();
    expect((await endOf(well)).reason).toBe('finished');
  });

  test('at what the client sent before the relay began, too', async () => {
    const tap: Tap = {
      pass: () => {
        throw new Error('cannot follow');
      },
    };
    const tested = await startRelay({ client: 'tcp', upstream: 'tcp' }, { tap }, Buffer.from('poison'));
    expect(await endOf(tested)).toMatchObject({ reason: 'internal_error' });
  });
});

describe('half_close', () => {
  const halfCloseMs = 1000;

  function fakeTimers(): void {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
  }

  test('silence after one side has finished ends the connection, but never while bytes move', async () => {
    const tested = await startRelay({ client: 'tls1.3', upstream: 'tcp' }, { halfCloseMs });
    const { client, backend, relay } = tested;
    const fate = fateOf(client);
    fakeTimers();
    // Before an end it is no matter how long nothing moves.
    vi.advanceTimersByTime(100 * halfCloseMs);
    client.stream.end();
    backend.stream.resume();
    await once(backend.stream, 'end');
    for (let count = 0; count < 20; count++) {
      vi.advanceTimersByTime(halfCloseMs - 1);
      backend.stream.write('still at it');
      await readBytes(client.stream, 11);
    }
    let settled = false;
    void relay.done.then(() => (settled = true));
    await turn();
    expect(settled).toBe(false);
    client.stream.resume();
    vi.advanceTimersByTime(2 * halfCloseMs);
    expect(await endOf(tested)).toMatchObject({
      reason: 'half_close_timeout',
      initiator: 'proxy',
      detail: 'silent for 1000 ms after the client finished',
    });
    expect(await fate).toBe('ECONNRESET');
  });

  test('a connection that has ended leaves no timer behind', async () => {
    const tested = await startRelay({ client: 'tcp', upstream: 'tcp' }, { halfCloseMs });
    fakeTimers();
    tested.client.stream.end().resume();
    tested.backend.stream.end().resume();
    await endOf(tested);
    expect(vi.getTimerCount()).toBe(0);
  });
});
