import { once } from 'node:events';
import { connect } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';

import { expect, onTestFinished, test } from 'vitest';

import { HTTP2_PREFACE } from '../support/clients.js';
import { startSetup } from '../support/setup.js';
import { MIB, residentBytes } from '../support/transfer.js';

const RECORDS = 90_000;

/** A third of them is what the first use of the code takes. Each by itself, the records take 60. */
const MAX_MIB = 30;

/** A TLS client each of whose writes becomes a record; `flush` sends them together. */
async function recordClient(port: number, ca: string): Promise<{ client: TLSSocket; flush: () => void }> {
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
  const client = connectTls({ socket: below, servername: 'localhost', ALPNProtocols: ['h2'], ca });
  client.on('error', () => undefined);
  await once(client, 'secureConnect');
  held = [];
  return {
    client,
    flush: () => {
      raw.write(Buffer.concat(held ?? []));
      held = undefined;
    },
  };
}

test('records of one byte that wait for upstream cost hardly more than their bytes', async () => {
  const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { dial: '1m' } } });
  const { client, flush } = await recordClient(port, ca.caPem);
  client.write(HTTP2_PREFACE);
  // A frame of an unknown type, which passes, and is longer than what follows.
  client.write(Buffer.from([2, 0, 0, 0xff, 0, 0, 0, 0, 0]));
  for (let record = 0; record < RECORDS; record++) {
    await new Promise((resolve) => client.write('x', resolve));
  }
  const before = residentBytes(proxy.pid);
  flush();
  const upstream = await backend.accept();
  // It has sent nothing: the proxy keeps what the client has sent, to answer the client if upstream does not.
  await upstream.receive(RECORDS);
  expect((residentBytes(proxy.pid) - before) / MIB).toBeLessThan(MAX_MIB);
  client.destroy();
  upstream.socket.destroy();
  await proxy.endsWithNothingLeaked();
});
