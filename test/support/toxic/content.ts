import { noise } from '../noise.js';
import { randomOf } from '../seeded-random.js';
import type { Plan } from './plan.js';

const NUMBER_BYTES = 4;

/** What passes on one connection: known to both ends by its number, so that each can tell whether it has had all of it. */
export interface Exchange {
  readonly plan: Plan;
  /** Begins with the connection's number. */
  readonly up: Buffer;
  readonly down: Buffer;
}

/** What passes on a connection with this plan. */
export function exchangeOf(plan: Plan): Exchange {
  const { number, bytes, seed } = plan;
  const head = Buffer.alloc(NUMBER_BYTES);
  head.writeUInt32BE(number);
  return { plan, up: Buffer.concat([head, noise(bytes.up, seed)]), down: noise(bytes.down, seed + 1) };
}

/** The number that an upload begins with; `undefined` while too little of it has come. */
export function numberOf(up: Buffer): number | undefined {
  return up.length < NUMBER_BYTES ? undefined : up.readUInt32BE();
}

/** Cuts bytes into pieces of up to so many, as the plan has it; the first is long enough to hold the number. */
export function pieces(bytes: Buffer, bytesMax: number, { seed }: Plan): Buffer[] {
  const random = randomOf(seed);
  const cut: Buffer[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const length = Math.max(NUMBER_BYTES, random(10) < 8 ? bytesMax : random(bytesMax));
    cut.push(bytes.subarray(offset, offset + length));
    offset += length;
  }
  return cut;
}

/** Compares what comes with what must come. */
export class Expected {
  readonly #name: string;
  readonly #bytes: Buffer;
  #had = 0;
  #state: 'coming' | 'whole' | 'wrong' = 'coming';

  constructor(name: string, bytes: Buffer) {
    this.#name = name;
    this.#bytes = bytes;
  }

  get isWhole(): boolean {
    return this.#state === 'whole';
  }

  /** The next bytes; in words what is wrong with them, if anything is. */
  take(part: Buffer): string | undefined {
    const expected = this.#bytes.subarray(this.#had, this.#had + part.length);
    if (this.#state === 'coming' && expected.equals(part)) {
      this.#had += part.length;
      return undefined;
    }
    this.#state = 'wrong';
    return `${this.#name}: of ${part.length} bytes from ${this.#had} on, of ${this.#bytes.length}, not all are what was sent`;
  }

  /** The sender says that this was all; in words what is wrong with that, if anything is. */
  end(): string | undefined {
    if (this.#state === 'coming' && this.#had === this.#bytes.length) {
      this.#state = 'whole';
      return undefined;
    }
    this.#state = 'wrong';
    return `${this.#name}: ended after ${this.#had} of ${this.#bytes.length} bytes as if that were all`;
  }
}
