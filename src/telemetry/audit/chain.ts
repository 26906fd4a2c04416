import { createHash, randomBytes } from 'node:crypto';

/** The hash that a chain begins with. */
export const NO_HASH = '0'.repeat(64);

/** The last line of a chain. */
export interface ChainHead {
  /** Identifies the chain: one per run of a proxy. */
  readonly chain: string;
  /** The number of the line in its chain; the first is 1. */
  readonly sequence: number;
  readonly hash: string;
}

/** Begins a chain. */
export function newChain(): ChainHead {
  return { chain: randomBytes(8).toString('hex'), sequence: 0, hash: NO_HASH };
}

/**
 * Makes a body the next line of a chain: the body with `chain` and `sequence` in front and `hash` behind. The hash is the SHA-256
 * of the hash of the line before, as text, and of the bytes of the line up to `,"hash"`.
 *
 * @param body - JSON of an object with members, on one line
 * @returns the line with its line end, and the new head
 */
export function appendLine(
  { chain, sequence, hash }: ChainHead,
  body: string,
): [line: string, head: ChainHead] {
  const hashed = `{"chain":"${chain}","sequence":${sequence + 1},${body.slice(1, -1)}`;
  const head = { chain, sequence: sequence + 1, hash: hashOf(hash, Buffer.from(hashed)) };
  return [`${hashed},"hash":"${head.hash}"}\n`, head];
}

/** A line of a chain as it is in a file. */
export interface ChainLine extends ChainHead {
  readonly bytes: Buffer;
}

const START = /^\{"chain":"([\da-f]{16})","sequence":([1-9]\d{0,14}),"/u;
const END = /^,"hash":"([\da-f]{64})"\}$/u;
const START_BYTES = 60;
const END_BYTES = ',"hash":""}'.length + NO_HASH.length;

/** Reads a line, without its line end. `undefined` if it does not have the form of a line of a chain. */
export function readLine(bytes: Buffer): ChainLine | undefined {
  const [, chain, sequence] = START.exec(bytes.toString('latin1', 0, START_BYTES)) ?? [];
  const [, hash] = END.exec(bytes.toString('latin1', Math.max(0, bytes.length - END_BYTES))) ?? [];
  if (chain === undefined || hash === undefined) return undefined;
  return { chain, sequence: Number(sequence), hash, bytes };
}

/** Whether the hash of a line is the one that its content and the hash of the line before result in. */
export function isLinked({ bytes, hash }: ChainLine, previousHash: string): boolean {
  return hashOf(previousHash, bytes.subarray(0, bytes.length - END_BYTES)) === hash;
}

/** The hash of the part of a line that was written before its process or its disk failed. */
export function tornHash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function hashOf(previousHash: string, hashed: Buffer): string {
  return createHash('sha256').update(previousHash).update(hashed).digest('hex');
}
