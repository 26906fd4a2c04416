import { Duplex } from 'node:stream';

import { YamuxPeer } from '../../inspect/yamux/yamux-peer.js';

/** One end of a yamux session on a connection. Each yamux stream is a Node stream, on which gRPC runs. */
export class YamuxSession {
  readonly #connection: Duplex;
  readonly #peer: YamuxPeer;
  readonly #streams = new Map<number, YamuxStream>();
  /** Callbacks of writes that are in the output. */
  #written: (() => void)[] = [];

  /**
   * `accept` receives the streams that the other end opens. Bytes that were read from the connection before must have
   * been unshifted. The streams end with the connection.
   */
  constructor(connection: Duplex, role: 'client' | 'server', accept: (stream: Duplex) => void) {
    this.#connection = connection;
    this.#peer = new YamuxPeer(role, {
      opened: (streamId) => accept(this.#add(streamId)),
      data: (streamId, bytes) => this.#streams.get(streamId)?.received(bytes),
      finished: (streamId) => this.#streams.get(streamId)?.push(null),
      reset: (streamId) => this.#streams.get(streamId)?.destroy(),
      sent: (streamId) => {
        const written = this.#streams.get(streamId)?.takeWritten();
        if (written) this.#written.push(written);
      },
      goAway: () => undefined,
    });
    connection.on('data', (chunk: Buffer) => {
      if (!this.#peer.receive(chunk)) connection.destroy();
      this.flush();
    });
    connection.on('end', () => connection.end());
    connection.on('error', () => undefined);
    connection.on('close', () => {
      for (const stream of this.#streams.values()) stream.destroy();
    });
  }

  open(): Duplex {
    const stream = this.#add(this.#peer.open());
    this.flush();
    return stream;
  }

  /** Ends the connection after the bytes that have been sent. */
  end(): void {
    this.#connection.end();
  }

  /** Called by the streams: writes the output of the peer. */
  flush(): void {
    const output = this.#peer.takeOutput();
    if (output.length === 0 || !this.#connection.writable) return;
    const written = this.#written;
    this.#written = [];
    this.#connection.cork();
    for (const bytes of output.slice(0, -1)) this.#connection.write(bytes);
    this.#connection.write(output.at(-1), () => {
      for (const done of written) done();
    });
    this.#connection.uncork();
  }

  #add(streamId: number): YamuxStream {
    const stream = new YamuxStream(this, this.#peer, streamId);
    this.#streams.set(streamId, stream);
    stream.once('close', () => this.#streams.delete(streamId));
    return stream;
  }
}

/** A stream of a session. */
class YamuxStream extends Duplex {
  readonly #session: YamuxSession;
  readonly #peer: YamuxPeer;
  readonly #id: number;
  /** Received bytes that have not been reported as consumed. */
  #unreportedBytes = 0;
  #written: (() => void) | undefined;

  constructor(session: YamuxSession, peer: YamuxPeer, id: number) {
    super();
    this.#session = session;
    this.#peer = peer;
    this.#id = id;
  }

  /** Called by the session. */
  received(bytes: Buffer): void {
    this.#unreportedBytes += bytes.length;
    this.push(bytes);
  }

  /** Called by the session: removes and returns the callback of the current write. */
  takeWritten(): (() => void) | undefined {
    const written = this.#written;
    this.#written = undefined;
    return written;
  }

  /** Node calls this when the received bytes were read, except for those below its high-water mark. */
  override _read(): void {
    this.#peer.consumed(this.#id, this.#unreportedBytes);
    this.#unreportedBytes = 0;
    this.#session.flush();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: () => void): void {
    this.#written = written;
    this.#peer.send(this.#id, chunk);
    this.#session.flush();
  }

  override _final(done: () => void): void {
    this.#peer.finish(this.#id);
    this.#session.flush();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#peer.reset(this.#id);
    this.#session.flush();
    done(error);
  }
}
