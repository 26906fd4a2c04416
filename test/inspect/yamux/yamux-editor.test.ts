import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { Sender } from '../../../src/inspect/sender.js';
import { EditedFlow } from '../../../src/inspect/yamux/edited-flow.js';
import type { EditConnection } from '../../../src/inspect/yamux/yamux-editor.js';
import { YAMUX_INITIAL_WINDOW_BYTES, YamuxFlag, YamuxType } from '../../../src/inspect/yamux/yamux-frame.js';
import { MAX_HELD_YAMUX_BYTES, YAMUX_REPAID_BYTES } from '../../../src/limits.js';
import {
  backchannelEditor,
  encode,
  framesOf,
  ModelPeer,
  Random,
  Session,
  type Frame,
} from './editor-model.js';
import { yamuxHeader } from '../../support/yamux-frames.js';
import { frame as inWords, type Sent } from './hand-made.js';

const { data, windowUpdate, ping } = YamuxType;
const { syn, ack, fin } = YamuxFlag;
const KIB = 1024;
const NOTHING = Buffer.alloc(0);

function frame(type: number, flags: number, streamId: number, content: number | string | Buffer): Frame {
  if (typeof content === 'number') return { type, flags, streamId, value: content, payload: NOTHING };
  const payload = Buffer.from(content);
  return { type, flags, streamId, value: payload.length, payload };
}

/** A sidechannel that the server opens, with its first bytes. */
const SIDECHANNEL: Readonly<Record<Sender, readonly Frame[]>> = {
  server: [frame(windowUpdate, syn, 2, 0), frame(data, 0, 2, 'sidechannel\0\0\0\0\0\0\0\x07')],
  client: [frame(windowUpdate, ack, 2, 0), frame(data, 0, 2, 'ok')],
};

function otherFrame(random: Random): Frame {
  switch (random.below(4)) {
    case 0:
      return frame(ping, random.chance(50) ? syn : ack, 0, random.below(1000));
    case 1:
      return frame(windowUpdate, 0, 2, random.below(1000));
    default:
      return frame(data, 0, 2, random.bytes(random.below(3000)));
  }
}

/** The results of an inner editor, by who has sent the data. */
type Decided = Record<Sender, Buffer[]>;

/** An inner editor that drops, replaces and inserts at random, and sends the client bytes of its own. */
function editingAtRandom(random: Random, editedPercent: number, decided: Decided): EditConnection {
  return (_connection, toClient) => ({
    failure: undefined,
    pass: (sender, bytes) => {
      if (sender === 'client' && random.chance(editedPercent / 2)) {
        const inserted = random.bytes(1 + random.below(random.chance(5) ? 100_000 : 500));
        decided.server.push(Buffer.from(inserted));
        toClient(inserted);
      }
      let result = bytes;
      if (random.chance(editedPercent)) {
        const [from, to] = [random.below(bytes.length + 1), random.below(bytes.length + 1)];
        const inserted = random.chance(50)
          ? random.bytes(random.below(random.chance(5) ? 100_000 : 500))
          : NOTHING;
        result = Buffer.concat([
          bytes.subarray(0, Math.min(from, to)),
          inserted,
          bytes.subarray(random.chance(80) ? Math.max(from, to) : bytes.length),
        ]);
      }
      decided[sender].push(Buffer.from(result));
      return result;
    },
  });
}

/** Moves everything until both ends wait; both programs read all. */
function settle(session: Session, slice = 1 << 20): void {
  const { client, server } = session;
  for (;;) {
    for (const peer of [client, server]) {
      peer.read(Number.POSITIVE_INFINITY);
      peer.sendData(40_000);
    }
    if (client.output.length + server.output.length === 0) return;
    session.move('client', slice);
    session.move('server', slice);
  }
}

describe('whatever is dropped, inserted or replaced in the client’s stream', () => {
  const numbers = fc.record({
    seed: fc.integer({ min: 1, max: 2 ** 31 }),
    editedPercent: fc.constantFrom(0, 5, 50, 100),
    slice: fc.constantFrom(1, 20, 2000, 70_000),
    clientWindow: fc.constantFrom(256, 300, 1024, 16 * 1024),
    serverWindow: fc.constantFrom(256, 1024, 16 * 1024),
    isGrowing: fc.boolean(),
  });

  test('its ends receive what was decided, exceed no window and do not deadlock, and other streams are unchanged', () => {
    fc.assert(
      fc.property(numbers, ({ seed, editedPercent, slice, clientWindow, serverWindow, isGrowing }) => {
        const random = new Random(seed);
        const decided: Decided = { client: [], server: [] };
        const client = new ModelPeer('client', clientWindow * KIB, isGrowing);
        const server = new ModelPeer('server', serverWindow * KIB, isGrowing);
        const session = new Session(client, server, editingAtRandom(random, editedPercent, decided));
        const peers = { client, server };
        client.pending = Buffer.from('PRI');
        for (const opening of SIDECHANNEL.server) server.sendOther(opening);
        // The sidechannel is open before the client answers on it.
        settle(session);
        for (const answer of SIDECHANNEL.client) client.sendOther(answer);
        settle(session);
        const steps = slice === 1 ? 300 : 600;
        for (let step = 0; step < steps; step++) {
          const role = random.chance(50) ? 'client' : 'server';
          const peer = peers[role];
          const action = random.below(10);
          if (action < 3) {
            const content = random.bytes(random.below(slice === 1 ? 200 : 40_000));
            peer.pending = Buffer.concat([peer.pending, content]);
            peer.sendData(1 + random.below(60_000));
          } else if (action === 3) peer.sendOther(otherFrame(random));
          else if (action === 4) peer.read(random.below(100_000));
          else session.move(role, 1 + random.below(slice));
        }
        settle(session);
        // All window that the edits took has come back, or is less than is repaid at once.
        for (const [sender, receiver] of [
          [client, server],
          [server, client],
        ] as const)
          expect(receiver.receiveWindow - sender.sendWindow).toBeLessThan(YAMUX_REPAID_BYTES);
        for (const peer of [client, server]) peer.isFinishing = true;
        settle(session);
        expect(session.editor.failure).toBeUndefined();
        for (const [sender, peer, receiver] of [
          ['client', client, server],
          ['server', server, client],
        ] as const) {
          expect([peer.pending.length, peer.hasSentFin, receiver.hasReceivedFin]).toEqual([0, true, true]);
          expect(Buffer.concat(receiver.received).equals(Buffer.concat(decided[sender]))).toBe(true);
          expect(Buffer.concat(receiver.othersReceived).equals(Buffer.concat(peer.othersSent))).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('a session is edited the same wherever it is split', () => {
    const script: readonly (readonly [Sender, Frame])[] = [
      ['client', frame(windowUpdate, syn, 1, 0)],
      ['client', frame(data, 0, 1, 'PRI x-')],
      ['server', frame(windowUpdate, ack, 1, 7)],
      ['server', frame(data, 0, 1, 'settings')],
      ['client', frame(ping, syn, 0, 5)],
      ...SIDECHANNEL.server.map((each) => ['server', each] as const),
      ...SIDECHANNEL.client.map((each) => ['client', each] as const),
      ['client', frame(data, 0, 1, 'a-b+c++')],
      ['server', frame(data, 0, 2, 'pack')],
      ['server', frame(windowUpdate, 0, 1, 3)],
      ['client', frame(windowUpdate, 0, 1, 2)],
      ['server', frame(data, fin, 1, 'a+b-')],
      ['client', frame(data, fin, 1, '-')],
      ['server', frame(windowUpdate, fin, 2, 0)],
    ];
    const chunks: readonly Chunk[] = [
      ['client', Buffer.from('backchannel')],
      ...script.map(([sender, each]) => [sender, encode(each)] as const),
    ];
    const whole = outcome(chunks);
    expect(whole.server).toEqual({
      content: 'PRI xab++c++++',
      increments: 2,
      flags: ['syn', 'fin'],
      others: [frame(ping, syn, 0, 5), ...SIDECHANNEL.client].map((each) => encode(each).toString('hex')),
    });
    // One byte was dropped before the window update of 7, and two more inserted than dropped before that of 3.
    expect(whole.client).toMatchObject({ content: 'settingsa++b', increments: 9, flags: ['ack', 'fin'] });
    for (const [index, [sender, bytes]] of chunks.entries()) {
      for (let at = 1; at < bytes.length; at++) {
        const parts = [[sender, bytes.subarray(0, at)] as const, [sender, bytes.subarray(at)] as const];
        const split = chunks.flatMap((each, position) => (position === index ? parts : [each]));
        expect(outcome(split), `part ${index} at ${at}`).toEqual(whole);
      }
    }
    const single = chunks.flatMap(([sender, bytes]) =>
      [...bytes.keys()].map((at) => [sender, bytes.subarray(at, at + 1)] as const),
    );
    expect(outcome(single)).toEqual(whole);
  });
});

type Chunk = readonly [sender: Sender, bytes: Buffer];

/** Drops each `-` and doubles each `+`. */
const swapping: EditConnection = () => ({
  failure: undefined,
  pass: (_sender, bytes) => {
    const text = bytes.toString('latin1');
    const edited = text.replaceAll('-', '').replaceAll('+', '++');
    return text === edited ? bytes : Buffer.from(edited);
  },
});

const FLAGS = ['syn', 'ack', 'fin', 'rst'];

/** The content that each end receives on the edited stream, and the other frames. */
function outcome(chunks: readonly Chunk[]): Record<Sender, object> {
  const sent = { client: NOTHING, server: NOTHING };
  const send = (receiver: Sender, bytes: Buffer): void => {
    sent[receiver] = Buffer.concat([sent[receiver], bytes]);
  };
  const editor = backchannelEditor(swapping, send);
  for (const [sender, bytes] of chunks)
    send(sender === 'client' ? 'server' : 'client', editor.pass(sender, Buffer.from(bytes), 0));
  expect(editor.failure).toBeUndefined();
  const summary = (bytes: Buffer): object => {
    const { frames, rest } = framesOf(bytes);
    expect(rest).toHaveLength(0);
    const isEdited = ({ type, streamId }: Frame): boolean => streamId === 1 && type <= windowUpdate;
    const edited = frames.filter(isEdited);
    const updates = edited.filter(({ type }) => type === windowUpdate);
    return {
      content: Buffer.concat(edited.map(({ payload }) => payload)).toString('latin1'),
      increments: updates.reduce((sum, { value }) => sum + value, 0),
      flags: edited.flatMap(({ flags }) => FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0)),
      others: frames.filter((each) => !isEdited(each)).map((each) => encode(each).toString('hex')),
    };
  };
  const magic = sent.server.subarray(0, 'backchannel'.length);
  expect(magic.toString()).toBe('backchannel');
  return { client: summary(sent.client), server: summary(sent.server.subarray(magic.length)) };
}

const MAGIC: Sent = { sender: 'client', bytes: Buffer.from('backchannel') };
const OPEN = 'client 1 window syn 0, client 1 data - PRI, server 1 window ack 0';

/** An editor, and what it has sent each end since the last look, as frames in words. */
class Scripted {
  readonly editor;
  readonly #sent: Record<Sender, Buffer[]> = { client: [], server: [] };
  toClient: ((bytes: Buffer) => void) | undefined;

  constructor(edit: (bytes: Buffer) => Buffer = (bytes) => bytes) {
    const editing: EditConnection = (_connection, toClient) => {
      this.toClient = toClient;
      return { failure: undefined, pass: (_sender, bytes) => edit(bytes) };
    };
    this.editor = backchannelEditor(editing, (receiver, bytes) => this.#sent[receiver].push(bytes));
    this.send([MAGIC]);
    this.#sent.server = [];
    this.say(OPEN);
    this.look();
  }

  /** Sends frames in words. */
  say(words: string): void {
    this.send(words.split(', ').map(inWords));
  }

  send(sent: readonly Sent[]): void {
    for (const { sender, bytes } of sent)
      this.#sent[sender === 'client' ? 'server' : 'client'].push(this.editor.pass(sender, bytes, 0));
  }

  /** The frames that were forwarded since the last look, by who receives them. */
  look(): Record<Sender, string> {
    const words = (receiver: Sender): string => {
      const { frames, rest } = framesOf(Buffer.concat(this.#sent[receiver]));
      this.#sent[receiver] = [Buffer.from(rest)];
      return frames.map(wordsOf).join(', ');
    };
    return { client: words('client'), server: words('server') };
  }
}

const TYPES = ['data', 'window', 'ping', 'goaway'];

function wordsOf({ type, flags, streamId, value, payload }: Frame): string {
  const names = FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0).join('+') || '-';
  const content = payload.length > 20 ? `${payload.length} bytes` : payload.toString('latin1');
  return `${streamId} ${TYPES[type] ?? ''} ${names} ${type === data ? content : value}`.trimEnd();
}

const dropping = (bytes: Buffer): Buffer => (bytes.length > 3 ? NOTHING : bytes);
const doubling = (bytes: Buffer): Buffer => (bytes.length > 3 ? Buffer.concat([bytes, bytes]) : bytes);
const x = (count: number): string => 'x'.repeat(count);

describe('data that is unchanged', () => {
  test('passes without a copy in a frame that came whole', () => {
    const { editor } = new Scripted();
    const bytes = Buffer.concat(
      ['client 1 data - hello', 'client 0 ping syn 1', 'client 1 window - 5', 'client 1 data fin x'].map(
        (words) => inWords(words).bytes,
      ),
    );
    expect(editor.pass('client', bytes, 0)).toBe(bytes);
  });

  test('passes without a copy on other streams, however it is split', () => {
    const scripted = new Scripted();
    scripted.send(SIDECHANNEL.server.map((each) => ({ sender: 'server', bytes: encode(each) })));
    const bytes = inWords(`server 2 data - ${x(100)}`).bytes;
    for (const part of [bytes.subarray(0, 40), bytes.subarray(40)])
      expect(scripted.editor.pass('server', part, 0)).toBe(part);
  });

  test('is forwarded at once in a frame that comes in parts: SYN and ACK with the first, FIN with the last', () => {
    const scripted = new Scripted();
    const { bytes } = inWords('server 1 data ack+fin settings');
    scripted.send([{ sender: 'server', bytes: bytes.subarray(0, 15) }]);
    expect(scripted.look().client).toBe('1 data ack set');
    scripted.send([{ sender: 'server', bytes: bytes.subarray(15, 18) }]);
    expect(scripted.look().client).toBe('1 data - tin');
    scripted.send([{ sender: 'server', bytes: bytes.subarray(18) }]);
    expect(scripted.look().client).toBe('1 data fin gs');
  });
});

describe('windows of the edited stream', () => {
  test('dropped bytes are repaid to their sender once there are enough, or with the next window update', () => {
    const scripted = new Scripted(dropping);
    scripted.say(`client 1 data - ${x(YAMUX_REPAID_BYTES - 1)}`);
    expect(scripted.look()).toEqual({ client: '', server: '' });
    scripted.say('client 1 data - four');
    expect(scripted.look()).toEqual({ client: `1 window - ${YAMUX_REPAID_BYTES + 3}`, server: '' });
    scripted.say('client 1 data - four, server 1 window - 100');
    expect(scripted.look()).toEqual({ client: '1 window - 104', server: '' });
    scripted.say(`server 1 data - ${x(YAMUX_REPAID_BYTES)}`);
    expect(scripted.look()).toEqual({ client: '', server: `1 window - ${YAMUX_REPAID_BYTES}` });
  });

  test('inserted bytes are withheld from the receiver’s next window updates, whose flags are kept', () => {
    const scripted = new Scripted(doubling);
    scripted.say(
      'client 1 data - helloworld, server 1 window - 4, server 1 window fin 4, server 1 window - 4',
    );
    expect(scripted.look()).toEqual({
      client: '1 window fin 0, 1 window - 2',
      server: '1 data - helloworldhelloworld',
    });
  });

  test('bytes for which the receiver has no room wait for its window update, and FIN behind them', () => {
    const scripted = new Scripted(doubling);
    scripted.say(`client 1 data - ${x(130 * KIB)}, client 1 data fin end`);
    const room = YAMUX_INITIAL_WINDOW_BYTES - 'PRI'.length;
    expect(scripted.look()).toEqual({ client: '', server: `1 data - ${room} bytes` });
    scripted.say('server 1 window - 4096');
    expect(scripted.look()).toEqual({ client: '', server: '1 data - 4096 bytes' });
    scripted.say('server 1 window - 262144');
    expect(scripted.look()).toEqual({
      client: `1 window - ${(260 - 130) * KIB}`,
      server: '1 data fin xxxend',
    });
  });

  test('a window update with FIN waits likewise, and a reset discards what waits', () => {
    const scripted = new Scripted(doubling);
    scripted.say(`client 1 data - ${x(130 * KIB)}, client 1 window fin 7`);
    expect(scripted.look().server).toMatch(/bytes, 1 window - 7$/);
    scripted.say('client 1 window rst 9');
    expect(scripted.look().server).toBe('1 window rst 9');
    scripted.say('server 1 window - 262144');
    expect(scripted.look()).toEqual({ client: '1 window - 262144', server: '' });
  });

  test('no more than the limit waits', () => {
    const scripted = new Scripted();
    scripted.toClient?.(Buffer.alloc(MAX_HELD_YAMUX_BYTES + YAMUX_INITIAL_WINDOW_BYTES));
    expect(scripted.editor.failure).toBeUndefined();
    scripted.toClient?.(Buffer.alloc(1));
    expect(scripted.editor.failure).toBe('yamux_window');
    expect(scripted.editor.pass('client', inWords('client 0 ping syn 1').bytes, 0)).toHaveLength(0);
  });

  test('no more than the limit waits of what the inner editor inserts while it passes data', () => {
    const scripted: Scripted = new Scripted((bytes) => {
      if (bytes.length > 3)
        scripted.toClient?.(Buffer.alloc(MAX_HELD_YAMUX_BYTES + YAMUX_INITIAL_WINDOW_BYTES + 1));
      return bytes;
    });
    scripted.say('client 1 data - call');
    expect(scripted.editor.failure).toBe('yamux_window');
    expect(scripted.look().server).toBe('');
  });
});

describe('frames that are inserted', () => {
  test('wait for the end of another stream’s frame', () => {
    const scripted = new Scripted();
    scripted.send(SIDECHANNEL.server.map((each) => ({ sender: 'server', bytes: encode(each) })));
    const { bytes } = inWords('server 2 data - pack');
    scripted.send([{ sender: 'server', bytes: bytes.subarray(0, 14) }]);
    scripted.look();
    scripted.toClient?.(Buffer.from('first'));
    scripted.toClient?.(Buffer.from('second'));
    expect(scripted.look().client).toBe('');
    scripted.send([{ sender: 'server', bytes: bytes.subarray(14) }]);
    expect(scripted.look().client).toBe('2 data - pack, 1 data - firstsecond');
    scripted.toClient?.(Buffer.from('third'));
    expect(scripted.look().client).toBe('1 data - third');
  });

  test('are sent before a drained connection is closed', () => {
    const scripted = new Scripted();
    const drain = scripted.editor.drain();
    expect(drain.finished).toBe(true);
    scripted.toClient?.(Buffer.alloc(YAMUX_INITIAL_WINDOW_BYTES + 1));
    expect(drain.finished).toBe(false);
    scripted.say('client 1 window - 1');
    expect(drain.finished).toBe(true);
  });
});

describe('a connection is closed', () => {
  test.each([
    ['for a second stream of the client', 'client 3 window syn 0', 'second_stream'],
    ['for a second SYN of its stream', 'client 1 data syn PRI', 'second_stream'],
    ['for a stream of the server with the same number', 'server 1 window syn 0', 'second_stream'],
    [
      'for a stream that begins where the first has ended',
      'client 1 window fin 0, server 1 window fin 0, client 1 window syn 0',
      'second_stream',
    ],
    ['for a stream after a reset', 'client 1 window rst 0, client 1 window syn 0', 'second_stream'],
  ])('%s', (_name, words, failure) => {
    const scripted = new Scripted();
    scripted.say(words);
    expect(scripted.editor.failure).toBe(failure);
    scripted.look();
    scripted.say('client 1 data - late');
    expect(scripted.look().server).toBe('');
  });

  test('for an unknown type of frame', () => {
    const scripted = new Scripted();
    scripted.send([{ sender: 'client', bytes: yamuxHeader(0, 4, 0, 1, 0) }]);
    expect(scripted.editor.failure).toBe('yamux_frame');
    expect(scripted.look().server).toBe('');
  });
});

test('arbitrary frames, however they are split, are forwarded as they are or close the connection', () => {
  const sent = fc.record({
    isClient: fc.boolean(),
    type: fc.constantFrom(0, 0, 0, 1, 1, 2, 3, 4),
    flags: fc.constantFrom(0, 0, 0, syn, ack, fin, 8, 9, 12, 0xfff0),
    streamId: fc.constantFrom(0, 1, 1, 1, 2, 3),
    length: fc.nat(40),
    cut: fc.nat(60),
  });
  fc.assert(
    fc.property(fc.array(sent, { maxLength: 40 }), (frames) => {
      const forwarded: Record<Sender, Buffer[]> = { client: [], server: [] };
      const editing: EditConnection = () => ({ failure: undefined, pass: (_sender, bytes) => bytes });
      const editor = backchannelEditor(editing, (receiver, bytes) => forwarded[receiver].push(bytes));
      editor.pass('client', MAGIC.bytes, 0);
      for (const { isClient, type, flags, streamId, length, cut } of frames) {
        const payload = Buffer.alloc(type === 0 ? length : 0, 'P');
        const bytes = Buffer.concat([yamuxHeader(0, type, flags, streamId, length), payload]);
        for (const part of [bytes.subarray(0, cut), bytes.subarray(cut)]) {
          const passed = editor.pass(isClient ? 'client' : 'server', part, 0);
          expect(passed.length).toBeLessThanOrEqual(bytes.length + 24);
          if (editor.failure !== undefined) expect(passed).toHaveLength(0);
        }
      }
      // Nothing was inserted or dropped that a window would have to be corrected for.
      expect(forwarded).toEqual({ client: [], server: [] });
    }),
    { numRuns: 300 },
  );
});

describe('data that the inspector does not read is not forwarded', () => {
  // go-yamux reads what comes behind FIN, also from a frame with RST.
  test('the data of a frame with RST', () => {
    const scripted = new Scripted();
    scripted.say('client 1 window fin 0, client 1 data rst call');
    expect(scripted.look().server).toBe('1 window fin 0, 1 window rst 0');
  });

  test('data of a stream that is over', () => {
    const scripted = new Scripted();
    scripted.say('server 1 window rst 0, client 1 data - late, client 1 data fin late');
    expect(scripted.look().server).toBe('');
  });
});

test('a flow repays no more at a time than a window update holds', () => {
  const flow = new EditedFlow(1);
  flow.replaced(2 ** 32 + 2 ** 20, 0);
  const repaid = [flow.takeRepayment(), flow.takeRepayment(), flow.takeRepayment()];
  expect(repaid.map((update) => update?.readUInt32BE(8))).toEqual([2 ** 32 - 1, 2 ** 20 + 1, undefined]);
});
