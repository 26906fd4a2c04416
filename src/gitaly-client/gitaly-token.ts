import { createHmac } from 'node:crypto';

/**
 * Returns the `authorization` header of a call to Gitaly (auth/rpccredentials.go, version 2): the time in Unix seconds, signed
 * with the shared secret. The secret itself is never sent. Gitaly accepts the header for 30 s before and after that time.
 *
 * @param atMs - the time to sign, in Unix milliseconds.
 */
export function gitalyAuthorization(secret: string, atMs: number): string {
  const seconds = String(Math.floor(atMs / 1000));
  const signature = createHmac('sha256', secret).update(seconds).digest('hex');
  return `Bearer v2.${signature}.${seconds}`;
}
