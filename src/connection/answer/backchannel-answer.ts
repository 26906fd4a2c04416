import { BACKCHANNEL_MAGIC } from '../../inspect/backchannel/magic.js';
import { YamuxPeer, type YamuxPeerEvents } from '../../inspect/yamux/yamux-peer.js';
import { Http2Answer, type AnsweringServer, type CallStatus } from './call-answer.js';

const NOTHING = Buffer.alloc(0);

/**
 * Answers over the backchannel: the first stream that the client opens carries its calls, which are answered as over HTTP/2.
 * Every other stream is reset.
 */
export class BackchannelAnswer implements AnsweringServer, YamuxPeerEvents {
  readonly #calls: Http2Answer;
  readonly #peer = new YamuxPeer('server', this, BACKCHANNEL_MAGIC);
  /** The id of the stream with the calls, once it is open. */
  #stream: number | undefined;
  #closed = false;

  constructor(status: CallStatus) {
    this.#calls = new Http2Answer(status);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** A yamux server sends nothing before a stream is opened. */
  begin(): Buffer {
    return NOTHING;
  }

  receive(bytes: Buffer): Buffer {
    if (!this.#closed && !this.#peer.receive(bytes)) this.goAway();
    return this.#takeReplies();
  }

  end(): Buffer {
    if (this.#closed) return NOTHING;
    this.#send(this.#calls.end());
    this.goAway();
    return this.#takeReplies();
  }

  opened(streamId: number): void {
    if (this.#stream !== undefined) {
      this.#peer.reset(streamId);
      return;
    }
    this.#stream = streamId;
    this.#send(this.#calls.begin());
  }

  data(streamId: number, bytes: Buffer): void {
    this.#send(this.#calls.receive(Buffer.from(bytes)));
    this.#peer.consumed(streamId, bytes.length);
    if (this.#calls.closed) this.goAway();
  }

  finished(): void {
    this.goAway();
  }

  reset(): void {
    this.goAway();
  }

  sent(): void {
    // `Http2Answer` bounds the bytes that wait.
  }

  goAway(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#stream !== undefined) this.#peer.finish(this.#stream);
    this.#peer.goAway();
  }

  #send(bytes: Buffer): void {
    if (this.#stream !== undefined) this.#peer.send(this.#stream, bytes);
  }

  #takeReplies(): Buffer {
    return Buffer.concat(this.#peer.takeOutput());
  }
}
