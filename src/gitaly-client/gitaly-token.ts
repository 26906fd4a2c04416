import { createHmac } from 'node:crypto';

/**
 * The `authorization` of a call to Gitaly (auth/rpccredentials.go, version 2): the time in unix seconds, signed with the
 * secret that both ends know. The secret itself is never sent. Gitaly takes it for 30 s before and after that time.
 *
 * @param atMs - the time that it says, unix milliseconds.
 */
export function gitalyAuthorization(secret: string, atMs: number): string {
  const seconds = String(Math.floor(atMs / 1000));
  const signature = createHmac('sha256', secret).update(seconds).digest('hex');
  return `Bearer v2.${signature}.${seconds}`;
}
