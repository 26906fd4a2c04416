import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { codeOf } from '../error-codes.js';
import { guarded } from '../guarded.js';
import { BACKCHANNEL_MAGIC } from '../inspect/backchannel/magic.js';
import { settingsFrame } from '../inspect/http2/encode.js';
import { YamuxPeer } from '../inspect/yamux/yamux-peer.js';

/**
 * The backchannel stream on which a client calls Gitaly, over an existing connection. It sends the magic bytes and opens the
 * first stream of a yamux session. Streams opened by Gitaly are accepted; their bytes are ignored.
 */
export class BackchannelStream extends Duplex {
  readonly #connection: Socket;
  readonly #peer: YamuxPeer;
  readonly #streamId: number;
  /** Completes the write that is waiting for the window. */
  #written: ((error?: Error) => void) | undefined;

  constructor(connection: Socket) {
    super();
    this.#connection = connection;
    this.#peer = this.#createPeer();
    const onData = (bytes: Buffer): void => {
      const isYamux = this.#peer.receive(bytes);
      if (!isYamux && !this.destroyed)
        this.destroy(new Error('the response is not yamux: the server does not support the backchannel'));
      this.#flush();
    };
    connection.on(
      'data',
      guarded((error) => this.destroy(error), onData),
    );
    connection.once('error', (error: Error) => {
      // Depending on timing, a close is reported as this error or as an end.
      if (codeOf(error) === 'EPIPE') this.#closed();
      else this.destroy(error);
    });
    connection.once('end', () => this.#closed());
    connection.once('close', () => this.#closed());
    this.#streamId = this.#peer.open();
    connection.write(Buffer.concat([BACKCHANNEL_MAGIC, ...this.#peer.takeOutput()]));
  }

  override _read(): void {
    // Responses are short, and are pushed as they arrive.
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, written: (error?: Error) => void): void {
    this.#written = written;
    this.#peer.send(this.#streamId, bytes);
    this.#flush();
  }

  override _final(done: () => void): void {
    this.#peer.finish(this.#streamId);
    this.#flush();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#peer.goAway();
    this.#flush();
    if (this.#connection.writable) this.#connection.end();
    this.#connection.destroySoon();
    this.#written?.(error ?? new Error('the backchannel was closed'));
    this.#written = undefined;
    done(error);
  }

  #createPeer(): YamuxPeer {
    const peer: YamuxPeer = new YamuxPeer('client', {
      // Gitaly opens a stream to call its client. The answer is the SETTINGS frame of a gRPC server that receives no calls.
      opened: (streamId) => peer.send(streamId, settingsFrame('settings')),
      data: (streamId, bytes) => {
        // Streams opened by Gitaly never need more than their initial window.
        if (streamId !== this.#streamId) return;
        this.push(Buffer.from(bytes));
        peer.consumed(streamId, bytes.length);
      },
      finished: (streamId) => {
        if (streamId === this.#streamId) this.push(null);
      },
      reset: (streamId) => {
        if (streamId === this.#streamId) this.destroy(new Error('the server reset the backchannel stream'));
      },
      sent: (streamId) => {
        if (streamId !== this.#streamId) return;
        const written = this.#written;
        this.#written = undefined;
        written?.();
      },
      goAway: () => this.#closed(),
    });
    return peer;
  }

  #flush(): void {
    const output = this.#peer.takeOutput();
    if (output.length > 0 && this.#connection.writable) this.#connection.write(Buffer.concat(output));
  }

  #closed(): void {
    if (!this.destroyed && !this.readableEnded)
      this.destroy(new Error('the connection was closed during the backchannel session'));
  }
}
