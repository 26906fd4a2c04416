import type { Sender } from '../../../src/inspect/sender.js';
import type { SendWindows } from '../../../src/inspect/send-window.js';
import { FollowedSession, type YamuxStreamObserver } from '../../../src/inspect/yamux/followed-session.js';
import { yamuxHeader } from '../../support/yamux-frames.js';

const TYPES = ['data', 'window', 'ping', 'goaway'];
const FLAGS = ['syn', 'ack', 'fin', 'rst'];
export const PREFACE = Buffer.from('preface');

export interface Sent {
  readonly sender: Sender;
  readonly bytes: Buffer;
}

/**
 * A frame in words: who sends it, its stream, its type, its flags joined by `+` or `-`, and what it carries: text, of
 * data, or else a number.
 */
export function frame(words: string): Sent {
  const [sender, streamId, type = '', flags = '', carried = ''] = words.split(' ');
  const bits = flags.split('+').reduce((sum, flag) => sum + (flag === '-' ? 0 : 2 ** FLAGS.indexOf(flag)), 0);
  const isData = type === 'data';
  const length = isData ? carried.length : Number(carried);
  const head = yamuxHeader(0, TYPES.indexOf(type), bits, Number(streamId), length);
  const bytes = isData ? Buffer.concat([head, Buffer.from(carried)]) : head;
  return { sender: sender === 'client' ? 'client' : 'server', bytes };
}

/** The same words with the ends exchanged, and with the numbers of the streams that the server opens. */
export function mirrored(words: string): string {
  return words
    .replace(/client|server/, (sender) => (sender === 'client' ? 'server' : 'client'))
    .replace(/\b[1-9]\d*\b/, (streamId) => String(Number(streamId) + 1));
}

/** A session behind its preface, and what it tells, in words; data of one end that comes in parts is told as one. */
export class Followed {
  readonly told: string[] = [];
  readonly windows = new Map<number, SendWindows>();
  readonly session = new FollowedSession<'refused'>(PREFACE, {
    open: (opener, streamId, windows) => this.#open(opener, streamId, windows),
    take: () => undefined,
    giveBack: () => undefined,
  });

  constructor() {
    this.send({ sender: 'client', bytes: PREFACE });
  }

  #open(opener: Sender, streamId: number, windows: SendWindows): YamuxStreamObserver<'refused'> {
    this.windows.set(streamId, windows);
    this.told.push(`${opener} ${streamId} opens`);
    return {
      data: (sender, bytes, start, end) => {
        const [who, text] = [`${sender} ${streamId} data `, bytes.toString('latin1', start, end)];
        const last = this.told.at(-1);
        if (last?.startsWith(who)) this.told.splice(-1, 1, last + text);
        else this.told.push(who + text);
        return text === 'refuse' ? 'refused' : undefined;
      },
      accepted: () => undefined,
      finished: () => void this.told.push(`- ${streamId} finished`),
      cut: (why) => void this.told.push(`- ${streamId} ${why}`),
    };
  }

  send({ sender, bytes }: Sent): string | undefined {
    return this.session.read(sender, bytes, 0, bytes.length, 0);
  }

  /** Sends all these; why the last could not be followed, where all before it were. */
  sendAll(frames: readonly Sent[]): string | undefined {
    let failure: string | undefined;
    for (const sent of frames) {
      if (failure !== undefined) throw new Error(`${failure} before the last frame`);
      failure = this.send(sent);
    }
    return failure;
  }
}
