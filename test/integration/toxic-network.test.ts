import { randomInt } from 'node:crypto';

import { expect, onTestFinished, test } from 'vitest';

import { Authority } from '../support/authority.js';
import { ProxyProcess } from '../support/proxy-process.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { ToxicNetwork } from '../support/toxic/toxic-network.js';

/** `TOXIC_SEED=1234 npm test -- toxic-network` draws what a run drew that failed. */
const { TOXIC_SEED } = process.env;

const CONNECTIONS = 200;

test('a toxic network on both sides: every client sees either all its bytes or an error', async () => {
  const seed = TOXIC_SEED === undefined ? randomInt(2 ** 31) : Number(TOXIC_SEED);
  const ca = await Authority.create(await temporaryDirectory());
  const network = await ToxicNetwork.start(ca, 10);
  onTestFinished(() => network.stop());
  const proxy = await ProxyProcess.start({ configuration: network.configuration });
  const failures = await network.run({ seed, connections: CONNECTIONS }, proxy.log);
  expect(failures, `TOXIC_SEED=${seed}`).toEqual([]);
  expect(network.tally.connections).toBe(CONNECTIONS);
  await proxy.endsWithNothingLeaked();
}, 120_000);
