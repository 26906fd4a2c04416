import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';

import { onTestFinished } from 'vitest';

import { firstOutput } from './first-output.js';

const BACKLOG = 1;

const PROGRAM = `
  const server = require('node:net').createServer();
  server.listen({ host: '127.0.0.1', port: 0, backlog: ${BACKLOG} }, () => console.log(server.address().port));
`;

/**
 * An address that answers nothing, as behind a firewall that drops packets: a stopped process listens there, and its
 * queue is full, so that Linux drops every further SYN (tcp_conn_request in net/ipv4/tcp_input.c). What to forward to.
 */
export async function blackHole(): Promise<string> {
  const child = spawn(process.execPath, ['-e', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const output = await firstOutput(child.stdout);
  const port = Number(output);
  child.kill('SIGSTOP');
  // The queue has room for one connection more than the backlog.
  for (let queued = 0; queued <= BACKLOG; queued++) {
    const filler = connect({ host: '127.0.0.1', port });
    onTestFinished(() => void filler.destroy());
    filler.on('error', () => undefined);
    await once(filler, 'connect');
  }
  return `tcp://127.0.0.1:${port}`;
}
