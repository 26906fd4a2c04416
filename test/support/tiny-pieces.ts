import { once } from 'node:events';
import { connect } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';

import { onTestFinished } from 'vitest';

/** A client each of whose writes becomes a TLS record. */
export interface RecordClient {
  readonly client: TLSSocket;
  /** Records wait from now on, for `flush`, which sends them together. */
  hold(): void;
  flush(): void;
}

/** Connects it, with one protocol to choose from, or none. */
export async function recordClient(port: number, ca: string, alpn?: string): Promise<RecordClient> {
  const raw = connect({ host: '127.0.0.1', port });
  onTestFinished(() => void raw.destroy());
  let held: Buffer[] | undefined;
  const below = new Duplex({
    read: () => raw.resume(),
    write: (chunk: Buffer, _encoding, done) => {
      if (held) held.push(chunk);
      else raw.write(chunk);
      done();
    },
  });
  raw.on('data', (chunk: Buffer) => below.push(chunk));
  raw.on('error', () => undefined);
  const client = connectTls({
    socket: below,
    servername: 'localhost',
    ca,
    ...(alpn === undefined ? {} : { ALPNProtocols: [alpn] }),
  });
  client.on('error', () => undefined);
  await once(client, 'secureConnect');
  return {
    client,
    hold: () => (held = []),
    flush: () => {
      raw.write(Buffer.concat(held ?? []));
      held = undefined;
    },
  };
}

/** Writes each byte as a record. */
export async function writeSingly(client: TLSSocket, content: Buffer): Promise<void> {
  for (const byte of content) await new Promise((resolve) => client.write(Buffer.of(byte), resolve));
}
