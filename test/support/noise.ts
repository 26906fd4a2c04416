import { createCipheriv, createHash } from 'node:crypto';

/** Bytes that look random and are the same for a seed each time. */
export function noise(length: number, seed = 0): Buffer {
  const key = createHash('sha256').update(String(seed)).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}
