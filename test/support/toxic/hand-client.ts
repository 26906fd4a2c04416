import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';

import { CLIENT_PREFACE } from '../../../src/inspect/http2/http2-frame.js';
import { block } from '../http2-frames.js';
import { Expected, pieces, type Exchange } from './content.js';
import {
  dataFrame,
  FIN,
  headersFrame,
  HTTP2_DATA_BYTES_MAX,
  HTTP2_OPENING,
  message,
  readHttp2,
  readYamux,
  SYN,
  YAMUX_ACK,
  YAMUX_DATA,
  YAMUX_MORE_WINDOW_BYTES,
  YAMUX_WINDOW_UPDATE,
  yamuxFrame,
} from './frames.js';
import {
  answerBody,
  ANSWER_HEADERS,
  BACKCHANNEL,
  requestHeaders,
  sidechannelHead,
  SIDECHANNEL_OK,
  TRAILERS,
} from './hand-protocol.js';
import { endOrReset } from './ended.js';
import type { Plan } from './plan.js';
import type { Attempt, Seen } from './seen.js';
import { writeAll } from './write-all.js';

const SIDECHANNEL = 2;

/** Where a client connects, and how. */
export interface Target {
  readonly port: number;
  /** There for a listener of TLS. */
  readonly secureContext: SecureContext | undefined;
}

/**
 * A client that speaks HTTP/2 or the backchannel by hand: one call, with an upload and an answer. On the backchannel most of
 * the answer comes on a sidechannel.
 */
export class HandClient implements Attempt {
  readonly seen: Promise<Seen>;
  readonly #plan: Plan;
  readonly #socket: Socket;
  readonly #answer: Expected;
  readonly #sidechannel: Expected | undefined;
  #state: 'waiting' | 'answered' | 'over' = 'waiting';
  #settle: (seen: Seen) => void = () => undefined;
  #serverSpoke: () => void = () => undefined;

  constructor({ plan, up, down }: Exchange, { port, secureContext }: Target) {
    this.#plan = plan;
    this.seen = new Promise((resolve) => (this.#settle = resolve));
    const isBackchannel = plan.kind === 'backchannel';
    this.#answer = new Expected('the answer', answerBody(plan, down));
    if (isBackchannel)
      this.#sidechannel = new Expected('the sidechannel', Buffer.concat([sidechannelHead(plan), down]));
    const raw = connectTcp({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
    const toServer = { secureContext, servername: 'localhost', ALPNProtocols: ['h2'], allowHalfOpen: true };
    const socket = secureContext ? connectTls({ ...toServer, socket: raw }) : raw;
    this.#socket = socket;
    // To every library of TLS an end within the handshake is an error.
    let isThrough = socket === raw;
    socket.once('secureConnect', () => (isThrough = true));
    for (const each of new Set([raw, socket]))
      each.on('error', (error: Error) => this.#over({ what: 'error', how: codeOf(error) }));
    socket.once('end', () =>
      endOrReset(raw, (kind) =>
        this.#over(
          kind === 'end' && isThrough
            ? { what: 'end', how: `${this.#state}, after ${raw.bytesRead} bytes` }
            : { what: 'error', how: kind },
        ),
      ),
    );
    socket.once('close', () => this.#over({ what: 'error', how: 'closed' }));
    const read = isBackchannel ? this.#readBackchannel() : readHttp2(undefined, this.#http2Events());
    socket.on('data', (bytes: Buffer) => this.#state !== 'over' && read(bytes));
    socket.once(secureContext ? 'secureConnect' : 'connect', () => void this.#send(up));
  }

  vanish(): void {
    this.#over({ what: 'vanished' });
    this.#socket.destroy();
  }

  async #send(up: Buffer): Promise<void> {
    const { kind } = this.#plan;
    const spoken = new Promise<void>((resolve) => (this.#serverSpoke = resolve));
    const gone = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    const wrap = (bytes: Buffer): Buffer =>
      kind === 'backchannel' ? yamuxFrame(YAMUX_DATA, 0, 1, { bytes }) : bytes;
    const opening = wrap(
      Buffer.concat([CLIENT_PREFACE, HTTP2_OPENING, headersFrame(requestHeaders(this.#plan))]),
    );
    const begin =
      kind === 'backchannel'
        ? [BACKCHANNEL, yamuxFrame(YAMUX_WINDOW_UPDATE, SYN, 1, { length: YAMUX_MORE_WINDOW_BYTES }), opening]
        : [opening];
    const parts = pieces(message(up), HTTP2_DATA_BYTES_MAX, this.#plan);
    const frames = parts.map((part, index) => wrap(dataFrame(part, index === parts.length - 1)));
    // A client need not wait for the server with its first words; with more than the initial window it must.
    await writeAll(this.#socket, [...begin, ...frames.slice(0, 1)]);
    await Promise.race([spoken, gone]);
    await writeAll(this.#socket, frames.slice(1));
  }

  #http2Events(): Parameters<typeof readHttp2>[1] {
    let blocks = 0;
    return {
      settings: () => this.#serverSpoke(),
      headers: (bytes, isEnd) => {
        const expected = block([ANSWER_HEADERS, TRAILERS][blocks++] ?? {});
        if (bytes.equals(expected)) {
          if (isEnd) this.#check(this.#answer.end());
          if (isEnd && this.#answer.isWhole) this.#finishIfWhole();
        } else if (isEnd) this.#refused(bytes);
        else this.#check('HEADERS that nobody sent');
      },
      data: (part) => this.#check(this.#answer.take(part)),
      end: () => this.#check('END_STREAM without trailers'),
    };
  }

  #readBackchannel(): (bytes: Buffer) => void {
    const http2 = readHttp2(undefined, this.#http2Events());
    let isIntroduced = false;
    return readYamux(undefined, {
      opened: (streamId) => {
        if (streamId !== SIDECHANNEL) return;
        const length = YAMUX_MORE_WINDOW_BYTES;
        this.#socket.write(yamuxFrame(YAMUX_WINDOW_UPDATE, YAMUX_ACK, SIDECHANNEL, { length }));
      },
      data: (streamId, part) => {
        if (streamId === 1) {
          http2(part);
          return;
        }
        this.#check(this.#sidechannel?.take(part));
        if (!isIntroduced)
          this.#socket.write(yamuxFrame(YAMUX_DATA, 0, SIDECHANNEL, { bytes: SIDECHANNEL_OK }));
        isIntroduced = true;
      },
      finished: (streamId) => {
        if (streamId !== SIDECHANNEL) return;
        this.#check(this.#sidechannel?.end());
        this.#socket.write(yamuxFrame(YAMUX_DATA, FIN, SIDECHANNEL));
        this.#finishIfWhole();
      },
    });
  }

  /** An answer that is not Gitaly's: UNAVAILABLE, from the proxy. It is one of nothing else. */
  #refused(trailers: Buffer): void {
    const text = trailers.toString('latin1');
    if (text.includes('grpc-status\u000214')) {
      this.#over({ what: 'error', how: 'UNAVAILABLE' });
      this.#socket.end();
    } else this.#check(`trailers that nobody sent: ${JSON.stringify(text)}`);
  }

  #check(wrong: string | undefined): void {
    if (wrong === undefined) return;
    this.#over({ what: 'wrong', how: wrong });
    this.#socket.destroy();
  }

  #finishIfWhole(): void {
    if (!this.#answer.isWhole || this.#sidechannel?.isWhole === false) return;
    this.#over({ what: 'all' });
    this.#socket.end();
  }

  #over(seen: Seen): void {
    if (seen.what === 'end') this.#socket.end();
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#serverSpoke();
    this.#settle(seen);
  }
}

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
