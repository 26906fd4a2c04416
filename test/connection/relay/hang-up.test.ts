import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { turn } from '../byte-streams.js';
import {
  connectPeer,
  FORGED_RECORD,
  parties,
  WatchedEnd,
  type Parties,
  type Peer,
  type Role,
  type Transport,
} from './hang-up-ends.js';

/** What the watch reports, in order. */
type Verdict = 'finished' | 'finished, gone' | 'reset';

/** How our end is when the peer hangs up. */
const STATES = {
  read: 'while it is read',
  unread: 'while it is paused, with unread bytes',
  empty: 'while it is paused, with nothing unread',
  writing: 'while a write waits',
  ended: 'after our own end',
  answered: 'after our own end and an answer',
  endedUnread: 'after our own end, while it is paused, with unread bytes',
  endedEmpty: 'after our own end, while it is paused, with nothing unread',
} as const;

type State = keyof typeof STATES;

const STATE_NAMES: readonly State[] = [
  'read',
  'unread',
  'empty',
  'writing',
  'ended',
  'answered',
  'endedUnread',
  'endedEmpty',
];

const PAUSED: readonly State[] = ['unread', 'empty', 'endedUnread', 'endedEmpty'];

/** What a peer does, and what each state makes of it. */
interface Row {
  readonly peer: string;
  readonly over: readonly Transport[];
  readonly hangsUp: (peer: Peer) => Promise<void> | void;
  /** Where the behaviour comes from: files of Node (`deps/uv` is libuv), issues and pull requests. */
  readonly source: string;
  readonly verdicts: Readonly<Record<State, Verdict>>;
  /** Of the error of a reset. */
  readonly code?: RegExp;
  /** Bytes of content that the peer sends with its hang-up. */
  readonly bytes?: number;
  /** Whether the session tickets of a TLS server come with the hang-up. */
  readonly withTickets?: boolean;
}

const TCP: readonly Transport[] = ['tcp'];
const UNIX: readonly Transport[] = ['unix'];
const TLS: readonly Transport[] = ['tls1.2', 'tls1.3'];

const DATA = Buffer.from('data');

/** A peer that has sent everything; once our own side has ended, too, the socket closes. */
const FINISHED: Row['verdicts'] = {
  read: 'finished',
  unread: 'finished',
  empty: 'finished',
  writing: 'finished',
  ended: 'finished, gone',
  answered: 'finished, gone',
  endedUnread: 'finished, gone',
  endedEmpty: 'finished, gone',
};

const RESET: Row['verdicts'] = {
  read: 'reset',
  unread: 'reset',
  empty: 'reset',
  writing: 'reset',
  ended: 'reset',
  answered: 'reset',
  endedUnread: 'reset',
  endedEmpty: 'reset',
};

/** Since libuv 1.52, libuv reads once more where a hang-up comes with bytes, and so is told of a reset. */
const [, libuvMinor = 0] = process.versions.uv.split('.').map(Number);
const READS_AGAIN = libuvMinor >= 52;

/** The reset is not seen by libuv before 1.52. */
const UNSEEN: Verdict = READS_AGAIN ? 'reset' : 'finished, gone';

/** By a read, an empty write, or a write that waited. */
const SOCKET_ERROR = /^(ECONNRESET|EPIPE)$/;

const ROWS: readonly Row[] = [
  {
    peer: 'FIN',
    over: [...TCP, ...UNIX, ...TLS],
    hangsUp: (peer) => void peer.raw.end(),
    source:
      'lib/internal/stream_base_commons.js, onStreamRead: pushes null for UV_EOF. nodejs/node#40691: no `end` while paused ' +
      'with unread bytes. src/crypto/crypto_tls.cc, TLSWrap::OnStreamRead: UV_EOF is passed on as that of a close_notify',
    verdicts: FINISHED,
  },
  {
    peer: 'bytes and FIN',
    over: [...TCP, ...UNIX, ...TLS],
    hangsUp: async (peer) => void peer.raw.end(await peer.encrypted(DATA)),
    source:
      'src/crypto/crypto_tls.cc, TLSWrap::OnStreamRead: "Error should be emitted only after all data was read"',
    verdicts: FINISHED,
    bytes: DATA.length,
  },
  {
    peer: 'FIN, then RST',
    over: [...TCP, ...TLS],
    hangsUp: async (peer) => {
      peer.raw.end();
      await turns();
      peer.raw.resetAndDestroy();
    },
    source:
      'libuv/libuv#3449: libuv does not poll after UV_EOF, so only a write shows the reset. Linux reports the FIN first, ' +
      'and EPIPE for a write',
    // Paused, the empty write decides, and EPIPE does not tell a FIN before the reset.
    verdicts: { ...FINISHED, unread: 'reset', empty: 'reset', writing: 'finished, gone' },
    code: /^EPIPE$/,
  },
  {
    peer: 'RST',
    over: [...TCP, ...TLS],
    hangsUp: (peer) => void peer.raw.resetAndDestroy(),
    source:
      'deps/uv/src/unix/stream.c, uv__read: "Error. User should call uv_close()"; with unread bytes, uv__stream_io: ' +
      '"Short-circuit iff POLLHUP is set", libuv/libuv#2319',
    verdicts: RESET,
    code: SOCKET_ERROR,
  },
  {
    peer: 'bytes and RST',
    over: [...TCP, ...TLS],
    hangsUp: async (peer) => breakOffBehind(peer, await peer.encrypted(DATA)),
    source:
      'deps/uv/src/unix/stream.c, uv__stream_io: "Short-circuit iff POLLHUP is set", libuv/libuv#2319; reading that was ' +
      'stopped within the read clears UV_HANDLE_READING, the condition after it',
    verdicts: RESET,
    code: SOCKET_ERROR,
  },
  {
    peer: 'close of a unix socket',
    over: UNIX,
    hangsUp: (peer) => void peer.raw.destroy(),
    source:
      'nodejs/node#3803: a write to a closed unix socket is EPIPE. nodejs/node#49334: `read ECONNRESET at Pipe.onStreamRead` ' +
      'where the peer had not read everything',
    verdicts: {
      ...FINISHED,
      read: 'finished, gone',
      unread: 'finished, gone',
      empty: 'finished, gone',
      writing: 'reset',
    },
    code: /^ECONNRESET$/,
  },
  {
    peer: 'bytes and close of a unix socket',
    over: UNIX,
    hangsUp: (peer) => {
      peer.raw.write(DATA);
      peer.raw.destroy();
    },
    source: 'as above; deps/uv/src/unix/stream.c, uv__stream_io: libuv/libuv#2319',
    verdicts: {
      ...FINISHED,
      read: 'finished, gone',
      unread: 'finished, gone',
      empty: 'finished, gone',
      writing: UNSEEN,
    },
    code: SOCKET_ERROR,
    bytes: DATA.length,
  },
  {
    peer: 'close_notify and FIN',
    over: TLS,
    hangsUp: async (peer) => void peer.raw.end(await peer.closeNotify()),
    source:
      'src/crypto/crypto_tls.cc, TLSWrap::ClearOut: SSL_ERROR_ZERO_RETURN becomes UV_EOF, nodejs/node#44563',
    verdicts: FINISHED,
  },
  {
    peer: 'bytes, close_notify and FIN',
    over: TLS,
    hangsUp: async (peer) => {
      const records = [await peer.encrypted(DATA), await peer.closeNotify()];
      peer.raw.end(Buffer.concat(records));
    },
    source: 'src/crypto/crypto_tls.cc, TLSWrap::ClearOut: SSL_ERROR_ZERO_RETURN, nodejs/node#44563',
    verdicts: FINISHED,
    bytes: DATA.length,
  },
  {
    peer: 'close_notify and RST',
    over: TLS,
    hangsUp: async (peer) => breakOffBehind(peer, await peer.closeNotify()),
    source:
      'src/crypto/crypto_tls.cc, TLSWrap::OnStreamRead: "Ignore everything after close_notify"; before our own end the empty ' +
      'write fails',
    verdicts: { ...FINISHED, read: 'reset', unread: 'reset', empty: 'reset', writing: 'reset' },
    code: SOCKET_ERROR,
  },
  {
    peer: 'fatal alert and FIN',
    over: TLS,
    hangsUp: async (peer) => void peer.raw.end(await peer.fatalAlert()),
    source:
      'src/crypto/crypto_tls.cc, TLSWrap::ClearOut: "Got SSL error (%d), calling onerror". lib/_tls_wrap.js, onerror: after ' +
      'the handshake _emitTLSError emits `error` and destroys nothing',
    verdicts: RESET,
    code: /ALERT_BAD_RECORD_MAC$/,
  },
  {
    peer: 'fatal alert and RST',
    over: TLS,
    hangsUp: async (peer) => breakOffBehind(peer, await peer.fatalAlert()),
    source: 'as above: `error` precedes what libuv makes of the reset',
    verdicts: RESET,
    code: /ALERT_BAD_RECORD_MAC$/,
  },
  {
    peer: 'forged record',
    over: TLS,
    hangsUp: (peer) => void peer.raw.write(FORGED_RECORD),
    source: 'lib/_tls_wrap.js, onerror: after the handshake _emitTLSError emits `error` and destroys nothing',
    verdicts: RESET,
    code: /^ERR_SSL_(CIPHER_OPERATION_FAILED|DECRYPTION_FAILED_OR_BAD_RECORD_MAC)$/,
  },
  {
    peer: 'part of a record and RST',
    over: TLS,
    hangsUp: async (peer) => breakOffBehind(peer, firstHalf(await peer.encrypted(Buffer.alloc(100)))),
    source:
      'src/crypto/crypto_tls.cc, TLSWrap::ClearOut: SSL_ERROR_WANT_READ is the default case, which reports nothing. ' +
      'deps/uv/src/unix/stream.c, uv__stream_io: libuv/libuv#2319',
    verdicts: RESET,
    code: /^(ECONNRESET|EPIPE|ended within a TLS record)$/,
  },
  {
    peer: 'part of a record and FIN',
    over: TLS,
    hangsUp: async (peer) => void peer.raw.end(firstHalf(await peer.encrypted(Buffer.alloc(100)))),
    source:
      'src/crypto/crypto_tls.cc, TLSWrap::OnStreamRead: UV_EOF is passed on, whatever OpenSSL still waits for',
    // Unread bytes come in one read with the part of a record, which is then not told from them.
    verdicts: { ...FINISHED, ended: 'reset', answered: 'reset', endedEmpty: 'reset' },
    code: /^ended within a TLS record$/,
  },
  {
    peer: 'part of a close_notify and RST',
    over: TLS,
    hangsUp: async (peer) => breakOffBehind(peer, firstHalf(await peer.closeNotify())),
    source: 'as for a part of a record',
    verdicts: { ...RESET, answered: UNSEEN, endedEmpty: UNSEEN },
    code: /^(ECONNRESET|EPIPE|ended within a TLS record)$/,
  },
  {
    peer: 'part of a close_notify and FIN',
    over: TLS,
    hangsUp: async (peer) => void peer.raw.end(firstHalf(await peer.closeNotify())),
    source: 'as for a part of a record',
    verdicts: { ...FINISHED, ended: 'reset' },
    code: /^ended within a TLS record$/,
  },
  {
    peer: 'session tickets and FIN',
    over: ['tls1.3'],
    hangsUp: async (peer) => void peer.raw.end(await peer.held()),
    source: 'lib/_tls_wrap.js, onnewsessionclient: `session` is emitted within the read',
    verdicts: FINISHED,
    withTickets: true,
  },
  {
    peer: 'session tickets and RST',
    over: ['tls1.3'],
    hangsUp: async (peer) => breakOffBehind(peer, await peer.held()),
    source:
      'lib/_tls_wrap.js, onnewsessionclient: `session` is emitted within the read, where lib/net.js, Socket.prototype.pause ' +
      'stops a handle with `onread`. deps/uv/src/unix/stream.c, uv__stream_io: libuv/libuv#2319',
    verdicts: RESET,
    code: SOCKET_ERROR,
    withTickets: true,
  },
];

const ENDS: readonly (readonly [Role, Transport])[] = [...TCP, ...UNIX, ...TLS].flatMap((transport) => [
  ['accepted', transport],
  ['dialled', transport],
]);

let directory: string;
let by: Parties;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gitaly-tls-proxy-test-'));
  by = await parties(directory);
});

afterAll(() => rm(directory, { recursive: true }));

describe.each(ENDS)('the peer of a connection that was %s, %s', (role, transport) => {
  const rows = ROWS.filter(({ over, withTickets }) => {
    return over.includes(transport) && (!withTickets || role === 'dialled');
  });
  describe.each(rows.map((row) => [row.peer, row] as const))('%s', (_peer, row) => {
    const { hangsUp, verdicts, code, bytes, withTickets = false } = row;
    // Tickets precede all content.
    const states = STATE_NAMES.filter((state) => !withTickets || state === 'read' || state === 'ended');
    const cells = states.map((state) => [STATES[state], verdicts[state], state] as const);
    test.each(cells)('%s: %s', async (_when, verdict, state) => {
      const { peer, end } = await connectPeer(by, { transport, role, withTickets });
      const watched = new WatchedEnd(end);
      // Tickets are read before it, so that they come with no hang-up.
      if (!withTickets) await content(peer, watched);
      const unread = await enter(state, peer, watched);
      const before = watched.bytesRead;
      await hangsUp(peer);
      if (PAUSED.includes(state)) {
        await turns();
        watched.unblock();
      }
      const expected = verdict.split(', ');
      const reports = await watched.reports(expected.length);
      await turns();
      expect(reports.map(({ verdict: reported }) => reported)).toEqual(expected);
      const [first] = reports;
      if (first?.verdict === 'reset' && code) expect(first.error).toMatch(code);
      if (bytes !== undefined) expect(watched.bytesRead - before).toBe(unread + bytes);
      watched.destroy();
    });
  });
});

/** Makes our end what the state says. Returns the number of bytes that are unread. */
async function enter(state: State, peer: Peer, watched: WatchedEnd): Promise<number> {
  switch (state) {
    case 'read':
      return 0;
    case 'empty':
      watched.block();
      await content(peer, watched);
      return 0;
    case 'unread':
      await enter('empty', peer, watched);
      await peer.send(DATA);
      return DATA.length;
    case 'writing':
      peer.stopReading();
      await watched.writeUntilFull();
      return 0;
    case 'ended':
      peer.deafen();
      await watched.end();
      return 0;
    case 'answered':
      await enter('ended', peer, watched);
      await content(peer, watched);
      return 0;
    case 'endedUnread':
      await enter('ended', peer, watched);
      return enter('unread', peer, watched);
    case 'endedEmpty':
      await enter('ended', peer, watched);
      return enter('empty', peer, watched);
  }
}

async function content(peer: Peer, watched: WatchedEnd): Promise<void> {
  const before = watched.bytesRead;
  await peer.send(DATA);
  await watched.read(before + DATA.length);
}

/** Both reach us in one turn of the event loop. */
function breakOffBehind(peer: Peer, bytes: Buffer): void {
  peer.raw.write(bytes);
  peer.raw.resetAndDestroy();
}

function firstHalf(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.length / 2);
}

/** The loopback device delivers at once: what was sent shows in the next turns of the event loop. */
async function turns(): Promise<void> {
  for (let count = 0; count < 4; count++) await turn();
}
