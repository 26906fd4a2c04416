import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { YAMUX_INITIAL_WINDOW_BYTES, YamuxFlag, YamuxType } from '../../../src/inspect/yamux/yamux-frame.js';
import { YamuxPeer } from '../../../src/inspect/yamux/yamux-peer.js';
import { yamuxHeader } from '../../support/yamux-frames.js';

/** A peer, its events in words, and the bytes of each stream. */
class Recorded {
  readonly events: string[] = [];
  readonly parts = new Map<number, Buffer[]>();
  readonly peer: YamuxPeer;

  constructor(
    role: 'client' | 'server',
    onOpened: (peer: YamuxPeer, streamId: number) => void = () => undefined,
    preface?: Buffer,
  ) {
    const note =
      (what: string) =>
      (streamId: number): void =>
        void this.events.push(`${what} ${streamId}`);
    this.peer = new YamuxPeer(
      role,
      {
        opened: (streamId) => {
          note('opened')(streamId);
          onOpened(this.peer, streamId);
        },
        data: (streamId, bytes) => {
          const parts = this.parts.get(streamId) ?? [];
          this.parts.set(streamId, parts);
          parts.push(Buffer.from(bytes));
        },
        finished: note('finished'),
        reset: note('reset'),
        sent: note('sent'),
        goAway: () => void this.events.push('goAway'),
      },
      preface,
    );
  }

  /** The bytes that have arrived on a stream. */
  received(streamId: number): Buffer {
    return Buffer.concat(this.parts.get(streamId) ?? []);
  }

  /** The frames of the output, without their payload. */
  output(): readonly (readonly [type: number, flags: number, streamId: number, value: number])[] {
    const bytes = Buffer.concat(this.peer.takeOutput());
    const frames = [];
    for (let at = 0; at < bytes.length;) {
      const [type, value] = [bytes.readUInt8(at + 1), bytes.readUInt32BE(at + 8)];
      frames.push([type, bytes.readUInt16BE(at + 2), bytes.readUInt32BE(at + 4), value] as const);
      at += 12 + (type === YamuxType.data ? value : 0);
    }
    return frames;
  }
}

function pair(): { client: Recorded; server: Recorded; exchange: () => void } {
  const [client, server] = [new Recorded('client'), new Recorded('server')];
  const exchange = (): void => {
    for (;;) {
      const [toServer, toClient] = [client.peer.takeOutput(), server.peer.takeOutput()];
      if (toServer.length + toClient.length === 0) return;
      for (const bytes of toServer) expect(server.peer.receive(bytes)).toBe(true);
      for (const bytes of toClient) expect(client.peer.receive(bytes)).toBe(true);
    }
  };
  return { client, server, exchange };
}

const { data, windowUpdate, ping, goAway } = YamuxType;
const { syn, ack, fin, rst } = YamuxFlag;

describe('the frames of a yamux peer', () => {
  test('a client opens odd ids and a server even ones, with SYN, which is answered with ACK', () => {
    const { client, server } = pair();
    expect([client.peer.open(), client.peer.open()]).toEqual([1, 3]);
    expect([server.peer.open(), server.peer.open()]).toEqual([2, 4]);
    expect(server.output().map(([type, flags, id]) => [type, flags, id])).toEqual([
      [windowUpdate, syn, 2],
      [windowUpdate, syn, 4],
    ]);
    server.peer.receive(yamuxHeader(0, windowUpdate, syn, 1, 0));
    expect(server.output()).toEqual([[windowUpdate, ack, 1, 0]]);
    expect(server.events).toEqual(['opened 1']);
  });

  test('ACK is a flag of the first frame on an accepted stream; a refused one gets RST only', () => {
    const sending = new Recorded('server', (peer, streamId) => peer.send(streamId, Buffer.from('first')));
    sending.peer.receive(yamuxHeader(0, data, syn, 1, 0));
    expect(sending.output()).toEqual([[data, ack, 1, 5]]);
    const refusing = new Recorded('server', (peer, streamId) => peer.reset(streamId));
    refusing.peer.receive(yamuxHeader(0, windowUpdate, syn, 1, 0));
    expect(refusing.output()).toEqual([[windowUpdate, rst, 1, 0]]);
  });

  test('bytes beyond the window wait until the other end has consumed half of it; FIN waits for them', () => {
    const { client, server, exchange } = pair();
    const id = client.peer.open();
    client.peer.send(id, Buffer.alloc(YAMUX_INITIAL_WINDOW_BYTES + 10, 'x'));
    client.peer.finish(id);
    exchange();
    expect(server.received(id).length).toBe(YAMUX_INITIAL_WINDOW_BYTES);
    expect([...client.events, ...server.events]).toEqual(['opened 1']);
    server.peer.consumed(id, YAMUX_INITIAL_WINDOW_BYTES / 2 - 1);
    expect(server.output()).toEqual([]);
    server.peer.consumed(id, 1);
    exchange();
    expect(server.received(id).length).toBe(YAMUX_INITIAL_WINDOW_BYTES + 10);
    expect(client.events).toEqual([`sent ${id}`]);
    expect(server.events).toEqual([`opened ${id}`, `finished ${id}`]);
  });

  test('a stream is open until both ends have sent FIN; then a reset is not sent', () => {
    const { client, server, exchange } = pair();
    const id = client.peer.open();
    client.peer.finish(id);
    exchange();
    server.peer.send(id, Buffer.from('answer'));
    server.peer.finish(id);
    exchange();
    expect(client.received(id).toString()).toBe('answer');
    client.peer.reset(id);
    server.peer.reset(id);
    expect([client.output(), server.output()]).toEqual([[], []]);
  });

  test('a reset ends a stream at once, and its later frames are ignored', () => {
    const { client, server, exchange } = pair();
    const id = client.peer.open();
    exchange();
    client.peer.reset(id);
    client.peer.send(id, Buffer.from('late'));
    expect(client.output()).toEqual([[windowUpdate, rst, id, 0]]);
    server.peer.receive(yamuxHeader(0, windowUpdate, rst, id, 0));
    server.peer.receive(Buffer.concat([yamuxHeader(0, data, 0, id, 4), Buffer.from('late')]));
    expect(server.events).toEqual([`opened ${id}`, `reset ${id}`]);
    expect(server.parts.size).toBe(0);
  });

  test('a PING is answered with its id, and an answer is not', () => {
    const { peer } = new Recorded('server');
    peer.receive(Buffer.concat([yamuxHeader(0, ping, syn, 0, 77), yamuxHeader(0, ping, ack, 0, 78)]));
    expect(Buffer.concat(peer.takeOutput())).toEqual(yamuxHeader(0, ping, ack, 0, 77));
  });

  test('GO AWAY is reported; after its own nothing is read', () => {
    const server = new Recorded('server');
    expect(server.peer.receive(yamuxHeader(0, goAway, 0, 0, 0))).toBe(true);
    expect(server.events).toEqual(['goAway']);
    server.peer.goAway();
    server.peer.goAway();
    expect(server.output()).toEqual([[goAway, 0, 0, 0]]);
    expect(server.peer.receive(yamuxHeader(0, windowUpdate, syn, 1, 0))).toBe(false);
  });

  test('a FIN on a data frame comes after its bytes, and bytes after a FIN are ignored', () => {
    const server = new Recorded('server');
    server.peer.receive(Buffer.concat([yamuxHeader(0, data, syn | fin, 1, 2), Buffer.from('ab')]));
    server.peer.receive(Buffer.concat([yamuxHeader(0, data, 0, 1, 2), Buffer.from('cd')]));
    expect(server.events).toEqual(['opened 1', 'finished 1']);
    expect(server.received(1).toString()).toBe('ab');
  });

  test.each([
    ['another version', [yamuxHeader(1, data, 0, 1, 0)]],
    ['an unknown type', [yamuxHeader(0, 4, 0, 1, 0)]],
    ['a second SYN of an open stream', [yamuxHeader(0, data, syn, 1, 0), yamuxHeader(0, data, syn, 1, 0)]],
    ['a SYN of stream 0', [yamuxHeader(0, windowUpdate, syn, 0, 0)]],
    ['another preface', [Buffer.from('prefaxe')], Buffer.from('preface')],
  ])('%s cannot be read', (_name, frames, preface?: Buffer) => {
    const { peer } = new Recorded('server', undefined, preface);
    expect(peer.receive(Buffer.concat(frames))).toBe(false);
  });
});

test('whatever the sizes of writes and reads, every byte arrives once and in order', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 2000, max: 70_000 }), (lengths, slice) => {
      const [client, server] = [new Recorded('client'), new Recorded('server')];
      const id = client.peer.open();
      const sent = lengths.map((length, index) => Buffer.alloc(length, index + 1));
      for (const bytes of sent) client.peer.send(id, bytes);
      client.peer.finish(id);
      let consumed = 0;
      while (!server.events.includes(`finished ${id}`)) {
        const bytes = Buffer.concat(client.peer.takeOutput());
        expect(bytes.length).toBeGreaterThan(0);
        for (let at = 0; at < bytes.length; at += slice) server.peer.receive(bytes.subarray(at, at + slice));
        const total = server.received(id).length;
        server.peer.consumed(id, total - consumed);
        consumed = total;
        client.peer.receive(Buffer.concat(server.peer.takeOutput()));
      }
      expect(server.received(id).equals(Buffer.concat(sent))).toBe(true);
    }),
    { numRuns: 30 },
  );
});
