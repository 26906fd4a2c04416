import { describe, expect, test } from 'vitest';

import { ABUSE_LIMITS } from '../../../src/limits.js';
import { FollowedSession } from '../../../src/inspect/yamux/followed-session.js';
import { Followed, frame, mirrored, PREFACE, type Sent } from './hand-made.js';
import { yamuxHeader } from '../../support/yamux-frames.js';

const WINDOW_BYTES = 256 * 1024;
const OPEN = 'client 1 window syn';
const OPENED = 'client 1 opens';

/** What hashicorp's library sends: flags come with whatever is sent next, `fin` and `rst` with window updates. */
const FOLLOWED: readonly (readonly [name: string, sent: string, told: string])[] = [
  ['window update with SYN', 'client 1 window syn 1000', OPENED],
  ['data with SYN', 'client 1 data syn hello', `${OPENED}, client 1 data hello`],
  [
    'data with SYN|FIN',
    'client 1 data syn+fin hello, server 1 data ack ok, server 1 window fin',
    `${OPENED}, client 1 data hello, server 1 data ok, - 1 finished`,
  ],
  [
    'window update with SYN|FIN',
    'client 1 window syn+fin, server 1 window ack+fin',
    `${OPENED}, - 1 finished`,
  ],
  ['SYN that is answered with RST', `${OPEN}, server 1 window rst`, `${OPENED}, - 1 reset`],
  ['SYN|RST', 'client 1 window syn+rst, server 1 window ack', `${OPENED}, - 1 reset`],
  [
    'window update with ACK, data both ways',
    `${OPEN}, server 1 window ack 5, client 1 data - up, server 1 data - down`,
    `${OPENED}, client 1 data up, server 1 data down`,
  ],
  ['data with ACK', `${OPEN}, server 1 data ack down`, `${OPENED}, server 1 data down`],
  [
    'data with ACK|FIN, half of the close',
    `${OPEN}, server 1 data ack+fin down, client 1 data - up`,
    `${OPENED}, server 1 data down, client 1 data up`,
  ],
  [
    'FIN of both, the opener first',
    `${OPEN}, client 1 window fin, server 1 data - rest, server 1 window fin`,
    `${OPENED}, server 1 data rest, - 1 finished`,
  ],
  [
    'FIN of both, the other first',
    `${OPEN}, server 1 window ack+fin, client 1 data - rest, client 1 data fin end`,
    `${OPENED}, client 1 data restend, - 1 finished`,
  ],
  ['FIN twice of one', `${OPEN}, client 1 window fin, client 1 window fin`, OPENED],
  [
    'window update behind FIN',
    `${OPEN}, client 1 window fin, client 1 window - 9, server 1 data - x`,
    `${OPENED}, server 1 data x`,
  ],
  // A Close may overtake a Write in hashicorp's library.
  [
    'data after FIN',
    `${OPEN}, client 1 window fin, client 1 data - x, server 1 data fin y`,
    `${OPENED}, client 1 data x, server 1 data y, - 1 finished`,
  ],
  ['RST of the opener', `${OPEN}, client 1 window rst`, `${OPENED}, - 1 reset`],
  [
    'RST behind FIN, of a close that took too long',
    `${OPEN}, client 1 window fin, client 1 window rst`,
    `${OPENED}, - 1 reset`,
  ],
  ['FIN|RST', `${OPEN}, server 1 window fin+rst`, `${OPENED}, - 1 reset`],
  [
    'RST with an error code, of the library of libp2p',
    `${OPEN}, server 1 window ack, server 1 window rst 4294967295`,
    `${OPENED}, - 1 reset`,
  ],
  ['GO AWAY with an error code', `client 0 goaway - 4000000000, server 0 goaway - 7, ${OPEN}`, OPENED],
  [
    'late frames of a stream that was reset',
    `${OPEN}, server 1 window rst, client 1 data - late, client 1 data fin late, client 1 window - 5, client 1 window rst, server 1 window fin`,
    `${OPENED}, - 1 reset`,
  ],
  [
    'late frames of a stream that has finished',
    `${OPEN}, client 1 window fin, server 1 window fin, client 1 data - late, server 1 data - late, server 1 window rst`,
    `${OPENED}, - 1 finished`,
  ],
  [
    'openers that overtake each other',
    'client 5 window syn+rst, client 1 window syn, client 3 data syn x, server 5 window ack',
    'client 5 opens, - 5 reset, client 1 opens, client 3 opens, client 3 data x',
  ],
  ['as many ids left out as are followed', 'client 513 window syn', 'client 513 opens'],
  // What its receiver passes over, this does too.
  ['ids that jump', 'client 2001 window syn, client 1 window syn', 'client 2001 opens, client 1 opens'],
  [
    'an id used again',
    `${OPEN}, client 1 window fin, server 1 window fin, client 1 window syn`,
    `${OPENED}, - 1 finished, ${OPENED}`,
  ],
  ['an id of the other end', 'client 2 window syn', 'client 2 opens'],
  ['SYN twice', `${OPEN}, client 1 window syn`, `${OPENED}, - 1 lost, ${OPENED}`],
  ['frames of a stream that never began', `client 1 data - x, server 3 window rst, ${OPEN}`, OPENED],
  ['data without a stream', `client 0 data - x, server 0 window - 1, ${OPEN}`, OPENED],
  ['ping of a stream', `client 1 ping syn 1, ${OPEN}`, OPENED],
  [
    'ping, its answer and go away, whatever number they have',
    `client 0 ping syn 4000000000, server 0 ping ack 12, client 0 goaway - 2, ${OPEN}`,
    OPENED,
  ],
];

describe.each([
  ['client', (words: string) => words],
  ['server', mirrored],
] as const)('streams that the %s opens', (_opener, as) => {
  const framesOf = (sent: string): readonly Sent[] => sent.split(', ').map((words) => frame(as(words)));

  test.each(FOLLOWED)('%s', (_name, sent, told) => {
    const followed = new Followed();
    expect(followed.sendAll(framesOf(sent))).toBeUndefined();
    const lines = told.split(', ');
    expect(followed.told).toEqual(lines.map(as));
    const begun = lines.filter((line) => line.endsWith('opens')).length;
    expect(followed.session.openStreams).toBe(begun - lines.filter((line) => line.startsWith('-')).length);
  });

  test('a limit that is exceeded within a stream ends all of it', () => {
    const followed = new Followed();
    const sent = framesOf(`server 8 window syn, ${OPEN}, server 1 data - refuse`);
    expect(followed.sendAll(sent)).toBe('refused');
    expect(followed.told).toContain(as('- 8 lost'));
    expect(followed.session.openStreams).toBe(0);
    const { length } = followed.told;
    expect(followed.sendAll(framesOf('client 8 data ack x'))).toBe('refused');
    followed.session.end(0);
    expect(followed.told).toHaveLength(length);
  });

  test('data uses up the window of its sender, and what the other gives raises it: more is for the other to judge', () => {
    const followed = new Followed();
    const send = (words: string): string | undefined => followed.send(frame(as(words)));
    send('client 1 window syn 10');
    const windows = followed.windows.get(as === mirrored ? 2 : 1);
    const [opener, accepter] =
      as === mirrored ? (['server', 'client'] as const) : (['client', 'server'] as const);
    expect([windows?.[opener].bytes, windows?.[accepter].bytes]).toEqual([WINDOW_BYTES, WINDOW_BYTES + 10]);
    send(`client 1 data - ${'x'.repeat(WINDOW_BYTES)}`);
    expect(windows?.[opener].bytes).toBe(0);
    // What an end gives is not for itself.
    send('client 1 window - 100');
    send('server 1 window ack 3');
    expect(send('client 1 data - abc')).toBeUndefined();
    expect(send(`server 1 data - ${'y'.repeat(WINDOW_BYTES + 110)}`)).toBeUndefined();
    expect([windows?.[opener].bytes, windows?.[accepter].bytes]).toEqual([0, 0]);
    expect(send('client 1 data - d')).toBeUndefined();
    expect(windows?.[opener].bytes).toBe(-1);
  });
});

test.each([
  ['version 1', yamuxHeader(1, 1, 1, 1, 0)],
  ['type 4', yamuxHeader(0, 4, 1, 1, 0)],
])('%s is lost', (_name, bytes) => {
  for (const sender of ['client', 'server'] as const)
    expect(new Followed().send({ sender, bytes })).toBe('yamux_frame');
});

test('a connection that ends cuts what is open, once', () => {
  const followed = new Followed();
  followed.sendAll([OPEN, 'server 2 window syn', 'server 2 window rst'].map(frame));
  followed.session.end(0);
  followed.session.end(0);
  expect(followed.told.slice(2)).toEqual(['- 2 reset', '- 1 connection']);
});

test('another preface is another protocol', () => {
  const session = new FollowedSession<never>(PREFACE, {
    open: () => ({
      data: () => undefined,
      accepted: () => undefined,
      finished: () => undefined,
      cut: () => undefined,
    }),
    take: () => undefined,
    giveBack: () => undefined,
  });
  expect(session.read('client', Buffer.from('pref'), 0, 4, 0)).toBeUndefined();
  expect(session.read('client', Buffer.from('ix'), 0, 2, 0)).toBe('magic');
});

test('a session yields the same events wherever its bytes are split', () => {
  const sent = [
    'client 1 window syn, server 1 data ack hello, client 0 ping syn 7, server 2 data syn+fin question, client 1 data - up',
    'client 2 data ack+fin answer, server 0 ping ack 7, server 1 window - 9, client 3 window syn, server 3 window rst',
    'client 3 data - late, client 1 data fin rest, server 0 goaway -, server 1 data fin bye',
  ];
  const frames = sent.join(', ').split(', ').map(frame);
  const whole = new Followed();
  expect(whole.sendAll(frames)).toBeUndefined();
  expect(whole.told).toHaveLength(12);
  const pieces = ({ sender, bytes }: Sent, ...at: readonly number[]): Sent[] =>
    [0, ...at].map((from, index) => ({ sender, bytes: bytes.subarray(from, at[index]) }));
  for (const [index, split] of frames.entries()) {
    for (let at = 1; at < split.bytes.length; at++) {
      const followed = new Followed();
      const parts = frames.flatMap((each, position) => (position === index ? pieces(each, at) : [each]));
      expect(followed.sendAll(parts)).toBeUndefined();
      expect(followed.told, `frame ${index} at ${at}`).toEqual(whole.told);
    }
  }
  const bytewise = new Followed();
  for (const each of frames) bytewise.sendAll(pieces(each, ...[...each.bytes.keys()].slice(1)));
  expect(bytewise.told).toEqual(whole.told);
});

test('PINGs of both ends every 30 s do not exceed a limit', () => {
  const followed = new Followed();
  followed.send(frame(OPEN));
  const exchange = [
    'client 0 ping syn 1',
    'server 0 ping ack 1',
    'server 0 ping syn 1',
    'client 0 ping ack 1',
  ];
  const day = 24 * 3600;
  for (let seconds = 0; seconds < day; seconds += 30) {
    for (const { sender, bytes } of exchange.map(frame))
      expect(followed.session.read(sender, bytes, 0, bytes.length, seconds * 1000)).toBeUndefined();
  }
});

describe('frames of a client are limited whatever they carry', () => {
  const { burst } = ABUSE_LIMITS.smallFrames;

  test.each([
    [
      'streams that are opened and reset, with data',
      '',
      (index: number) => `client ${2 * index + 3} data syn+rst x`,
    ],
    ['data of a stream that does not exist', '', () => 'client 7 data - x'],
    ['data and RST of a stream that does not exist', '', () => 'client 7 data rst x'],
    [
      'data of a stream that has finished',
      'server 1 window ack+fin, client 1 window fin',
      () => 'client 1 data - x',
    ],
    ['data behind FIN', 'client 1 window fin', () => 'client 1 data - x'],
    ['FIN with data, again and again', 'client 1 data fin x', () => 'client 1 data fin x'],
  ])('%s', (_name, before, words) => {
    const followed = new Followed();
    followed.send(frame(OPEN));
    if (before !== '') followed.sendAll(before.split(', ').map(frame));
    let sent = 0;
    while (sent <= 2 * burst && followed.send(frame(words(sent))) === undefined) sent++;
    expect(followed.send(frame(words(sent)))).toBe('yamux_flood');
    expect(sent).toBeLessThanOrEqual(burst);
  });

  test('but data of an open stream is not, nor is a late end of one', () => {
    const followed = new Followed();
    followed.sendAll([frame(OPEN), frame('server 1 window ack')]);
    const data = frame('client 1 data - x');
    for (let sent = 0; sent < 3 * burst; sent++) expect(followed.send(data)).toBeUndefined();
    // A stream that the server resets may have a window of data under way.
    followed.send(frame('server 1 window rst'));
    for (let sent = 0; sent < WINDOW_BYTES / 1024; sent++) expect(followed.send(data)).toBeUndefined();
  });
});
