import { expect, test } from 'vitest';

import { HTTP2_PREFACE } from '../support/clients.js';
import { startSetup } from '../support/setup.js';
import { recordClient, writeSingly } from '../support/tiny-pieces.js';
import { MIB, residentBytes } from '../support/transfer.js';

const RECORDS = 90_000;

/** A third of them is what the first use of the code takes. Each by itself, the records take 60. */
const MAX_MIB = 30;

test('records of one byte that wait for upstream cost hardly more than their bytes', async () => {
  const { ca, backend, proxy, port } = await startSetup({ more: { timeouts: { dial: '1m' } } });
  const records = await recordClient(port, ca.caPem, 'h2');
  const { client } = records;
  records.hold();
  client.write(HTTP2_PREFACE);
  // A frame of an unknown type, which passes, and is longer than what follows.
  client.write(Buffer.from([2, 0, 0, 0xff, 0, 0, 0, 0, 0]));
  await writeSingly(client, Buffer.alloc(RECORDS, 'x'));
  const before = residentBytes(proxy.pid);
  records.flush();
  const upstream = await backend.accept();
  // It has sent nothing: the proxy keeps what the client has sent, to answer the client if upstream does not.
  await upstream.receive(RECORDS);
  expect((residentBytes(proxy.pid) - before) / MIB).toBeLessThan(MAX_MIB);
  client.destroy();
  upstream.socket.destroy();
  await proxy.endsWithNothingLeaked();
});
