import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect, type ConnectionOptions } from 'node:tls';

import { onTestFinished } from 'vitest';

/** The bytes of the ClientHello that Node's own TLS sends; nothing leaves the process. */
export function recordNode(options: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const transport = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        resolve(Buffer.from(chunk));
        done();
      },
    });
    const socket = connect({ ...options, socket: transport });
    // TLS never gets an answer; its error when the test destroys it does not matter.
    socket.on('error', reject);
    onTestFinished(() => void socket.destroy());
  });
}

/** Whether the `openssl` command exists. */
export const HAS_OPENSSL = spawnSync('openssl', ['version']).status === 0;

/** The bytes of the ClientHello that `openssl s_client` sends. */
export async function recordOpenssl(...options: readonly string[]): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the recorder is not bound');
  const client = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${address.port}`, ...options], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  onTestFinished(() => void client.kill());
  const accepted = await new Promise<Socket>((resolve) => server.once('connection', resolve));
  accepted.on('error', () => undefined);
  let bytes = Buffer.alloc(0);
  // One record contains it; the header has its length.
  while (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) {
    const chunk = await new Promise<Buffer>((resolve) => accepted.once('data', resolve));
    bytes = Buffer.concat([bytes, chunk]);
  }
  accepted.destroy();
  return bytes;
}

/** The same handshake message, cut into TLS records of these lengths; the last takes the rest. */
export function inRecords(recorded: Buffer, lengths: readonly number[]): Buffer {
  const message = recorded.subarray(5, 5 + recorded.readUInt16BE(3));
  const records: Buffer[] = [];
  let offset = 0;
  for (const length of [...lengths, message.length]) {
    const fragment = message.subarray(offset, offset + length);
    if (fragment.length === 0) break;
    const header = Buffer.from([22, 3, 1, 0, 0]);
    header.writeUInt16BE(fragment.length, 3);
    records.push(header, fragment);
    offset += fragment.length;
  }
  return Buffer.concat(records);
}
