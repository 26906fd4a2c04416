import { MAX_AUDITED_MESSAGE_BYTES } from '../../limits.js';
import { requestRepository, type RequestRepository } from './request-repository.js';

/** The flag of compression, and a length of four bytes (gRPC over HTTP/2, "Length-Prefixed-Message"). */
const PREFIX_BYTES = 5;
const NOTHING = Buffer.alloc(0);

/** The beginning of the first message of a call. */
export class AuditedRequest {
  #collected: Buffer = NOTHING;
  #isEnough = false;

  /** Takes the next bytes of the client's messages, and copies those that are needed. */
  add(bytes: Buffer, start: number, end: number): void {
    if (this.#isEnough) return;
    const room = PREFIX_BYTES + MAX_AUDITED_MESSAGE_BYTES - this.#collected.length;
    this.#collected = Buffer.concat([this.#collected, bytes.subarray(start, Math.min(end, start + room))]);
    this.#isEnough = this.#message.length >= Math.min(this.#length, MAX_AUDITED_MESSAGE_BYTES);
    // The bytes of further messages are not kept.
    if (this.#isEnough)
      this.#collected = Buffer.from(this.#collected.subarray(0, PREFIX_BYTES + this.#length));
  }

  /** Whether the message was not read whole: it is too long or compressed, or the call ended within it. */
  get isCut(): boolean {
    if (this.#collected.length === 0) return false;
    return this.#isCompressed || this.#message.length < this.#length;
  }

  /** The repository that the message names, if it is known by now. */
  repositoryOf(path: string): RequestRepository | undefined {
    return this.#isCompressed ? undefined : requestRepository(path, this.#message);
  }

  get #isCompressed(): boolean {
    return (this.#collected[0] ?? 0) !== 0;
  }

  /** The length of the message; infinite until it is known. */
  get #length(): number {
    return this.#collected.length < PREFIX_BYTES ? Number.POSITIVE_INFINITY : this.#collected.readUInt32BE(1);
  }

  get #message(): Buffer {
    return this.#collected.subarray(PREFIX_BYTES);
  }
}
