import { expect, test } from 'vitest';

import { HTTP2_PREFACE } from '../support/clients.js';
import { ONE_WORKER } from '../support/gate.js';
import { startSetup } from '../support/setup.js';
import { liveBytes } from '../support/live-bytes.js';
import { recordClient, writeSingly } from '../support/tiny-pieces.js';
import { MIB } from '../support/transfer.js';

const RECORDS = 90_000;

/** The measured value is at most 0.6. If each record was queued by itself, it would be 15. */
const MAX_MIB = 3;

test('records of one byte that wait for upstream cost hardly more than their bytes', async () => {
  const memory = await liveBytes();
  const more = { timeouts: { dial: '1m' }, ...ONE_WORKER };
  const { ca, backend, proxy, port } = await startSetup({ more, ...memory.start });
  const records = await recordClient(port, ca.caPem, 'h2');
  const { client } = records;
  records.hold();
  client.write(HTTP2_PREFACE);
  // A frame of an unknown type, which passes, and is longer than what follows.
  client.write(Buffer.from([2, 0, 0, 0xff, 0, 0, 0, 0, 0]));
  await writeSingly(client, Buffer.alloc(RECORDS, 'x'));
  const before = await memory.measure();
  records.flush();
  const upstream = await backend.accept();
  // It has sent nothing: the proxy keeps what the client has sent, to answer the client if upstream does not.
  await upstream.receive(RECORDS);
  expect(((await memory.measure()) - before) / MIB).toBeLessThan(MAX_MIB);
  client.destroy();
  upstream.socket.destroy();
  await proxy.endsWithNothingLeaked();
});
