import { createServer, type Server, type Socket } from 'node:net';
import { createSecureContext, TLSSocket, type SecureContextOptions } from 'node:tls';

import { CLIENT_PREFACE } from '../../../src/inspect/http2/http2-frame.js';
import { END_STREAM } from '../http2-frames.js';
import { Expected, numberOf, pieces } from './content.js';
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
  YAMUX_DATA_BYTES_MAX,
  YAMUX_MORE_WINDOW_BYTES,
  YAMUX_WINDOW_UPDATE,
  yamuxFrame,
} from './frames.js';
import { ANSWER_HEADERS, answerBody, BACKCHANNEL, sidechannelHead, TRAILERS } from './hand-protocol.js';
import { endOrReset } from './ended.js';
import type { Plan } from './plan.js';
import type { Witness } from './witness.js';
import { writeAll } from './write-all.js';

const SIDECHANNEL = 2;
const PREFIX_BYTES = message(Buffer.alloc(0)).length;

/** Serves what `HandClient` asks for, in Gitaly's place. */
export function handGitaly(witness: Witness, tls?: SecureContextOptions): Server {
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  const secureContext = tls && createSecureContext(tls);
  const options = { isServer: true, secureContext, ALPNProtocols: ['h2'], allowHalfOpen: true };
  return server.on('connection', (raw) => {
    raw.on('error', () => undefined);
    new HandConnection(tls ? new TLSSocket(raw, options) : raw, raw, witness).serve();
  });
}

/** One connection. */
class HandConnection {
  readonly #socket: Socket;
  readonly #raw: Socket;
  readonly #witness: Witness;
  #plan: Plan | undefined;
  #upload: Expected | undefined;
  /** The begin of the upload, until the number in it is whole. */
  #begin = Buffer.alloc(0);
  #read: ((bytes: Buffer) => void) | undefined;
  #isBackchannel = false;
  #clientReady: () => void = () => undefined;
  #uploadWhole: () => void = () => undefined;
  #isOver = false;

  /** `raw` is the socket below TLS, or `socket` itself. */
  constructor(socket: Socket, raw: Socket, witness: Witness) {
    this.#socket = socket;
    this.#raw = raw;
    this.#witness = witness;
  }

  serve(): void {
    const [socket, raw] = [this.#socket, this.#raw];
    socket.on('error', () => this.#over());
    socket.once('close', () => this.#over());
    socket.once('end', () => {
      if (this.#upload?.isWhole === true) socket.end();
      else
        endOrReset(raw, (kind) => {
          if (kind === 'end' && this.#plan) this.#witness.endedShort(this.#plan.number);
          socket.destroy();
        });
    });
    socket.on('data', (bytes: Buffer) => {
      if (this.#isOver) return;
      try {
        this.#read ??= this.#begins(bytes);
        this.#read(bytes);
      } catch (error) {
        this.#wrong(error instanceof Error ? error.message : String(error));
      }
    });
  }

  #begins(bytes: Buffer): (bytes: Buffer) => void {
    this.#isBackchannel = bytes[0] === BACKCHANNEL[0];
    const http2 = readHttp2(CLIENT_PREFACE, {
      settings: () => undefined,
      headers: () => undefined,
      data: (part) =>
        this.#isOver ? undefined : this.#upload ? this.#check(this.#upload.take(part)) : this.#identify(part),
      end: () => {
        if (this.#isOver) return;
        this.#check(this.#upload ? this.#upload.end() : 'an upload that ends before its number');
        if (!this.#upload?.isWhole || !this.#plan) return;
        this.#witness.hadAll(this.#plan.number);
        this.#uploadWhole();
      },
    });
    if (!this.#isBackchannel) {
      this.#socket.write(HTTP2_OPENING);
      return http2;
    }
    return readYamux(BACKCHANNEL, {
      opened: () => {
        this.#socket.write(
          yamuxFrame(YAMUX_WINDOW_UPDATE, YAMUX_ACK, 1, { length: YAMUX_MORE_WINDOW_BYTES }),
        );
        this.#socket.write(yamuxFrame(YAMUX_DATA, 0, 1, { bytes: HTTP2_OPENING }));
      },
      data: (streamId, part) => {
        if (streamId === 1) http2(part);
        else this.#clientReady();
      },
      finished: () => undefined,
    });
  }

  /** The first bytes of an upload say which it is. */
  #identify(part: Buffer): void {
    this.#begin = Buffer.concat([this.#begin, part]);
    const number = numberOf(this.#begin.subarray(PREFIX_BYTES));
    if (number === undefined) return;
    const exchange = this.#witness.find(number);
    if (!exchange) {
      this.#over();
      this.#socket.destroy();
      return;
    }
    const { plan, up, down } = exchange;
    this.#plan = plan;
    this.#upload = new Expected('the upload', message(up));
    this.#check(this.#upload.take(this.#begin));
    void this.#answer(plan, down);
  }

  async #answer(plan: Plan, down: Buffer): Promise<void> {
    const whole = new Promise<void>((resolve) => (this.#uploadWhole = resolve));
    const ready = new Promise<void>((resolve) => (this.#clientReady = resolve));
    const wrap = (bytes: Buffer): Buffer =>
      this.#isBackchannel ? yamuxFrame(YAMUX_DATA, 0, 1, { bytes }) : bytes;
    if (this.#isBackchannel) {
      const length = YAMUX_MORE_WINDOW_BYTES;
      const head = yamuxFrame(YAMUX_DATA, 0, SIDECHANNEL, { bytes: sidechannelHead(plan) });
      await writeAll(this.#socket, [yamuxFrame(YAMUX_WINDOW_UPDATE, SYN, SIDECHANNEL, { length }), head]);
      await ready;
      const parts = pieces(down, YAMUX_DATA_BYTES_MAX, plan);
      await writeAll(this.#socket, [
        ...parts.map((bytes) => yamuxFrame(YAMUX_DATA, 0, SIDECHANNEL, { bytes })),
        yamuxFrame(YAMUX_DATA, FIN, SIDECHANNEL),
      ]);
    }
    const parts = pieces(answerBody(plan, down), HTTP2_DATA_BYTES_MAX, plan);
    await writeAll(
      this.#socket,
      [headersFrame(ANSWER_HEADERS), ...parts.map((part) => dataFrame(part, false))].map(wrap),
    );
    await whole;
    await writeAll(this.#socket, [wrap(headersFrame(TRAILERS, END_STREAM))]);
  }

  #check(wrong: string | undefined): void {
    if (wrong !== undefined) this.#wrong(wrong);
  }

  #wrong(how: string): void {
    this.#witness.wrong(this.#plan?.number, how);
    this.#socket.destroy();
    this.#over();
  }

  #over(): void {
    this.#isOver = true;
  }
}
