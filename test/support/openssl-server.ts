import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { onTestFinished } from 'vitest';

import type { Authority, Issued } from './authority.js';
import { LogLines } from './log-lines.js';

/**
 * `openssl s_server`, which does what a Node server does not: refuses a client with an alert, as Go does, or offers no
 * ALPN. Returns its port.
 */
export async function opensslServer(
  { certificatePath, keyPath }: Pick<Issued, 'certificatePath' | 'keyPath'>,
  args: readonly string[],
): Promise<number> {
  const child = spawn(
    'openssl',
    ['s_server', '-accept', '127.0.0.1:0', '-cert', certificatePath, '-key', keyPath, ...args],
    { stdio: ['pipe', 'pipe', 'ignore'] },
  );
  onTestFinished(async () => {
    const closed = once(child, 'close');
    if (child.kill()) await closed;
  });
  const text = await new LogLines(child.stdout).waitForText('ACCEPT');
  const port = /ACCEPT .*:(\d+)/.exec(text)?.[1];
  if (port === undefined) throw new Error(`openssl s_server does not listen: ${text}`);
  return Number(port);
}

/** The arguments of one that speaks gRPC's ALPN, one version of TLS, and wants client certificates of this CA. */
export function requiringClients({ caPath }: Authority, version: '-tls1_2' | '-tls1_3'): string[] {
  return ['-CAfile', caPath, '-Verify', '1', '-verify_return_error', '-alpn', 'h2', version];
}
