import { once } from 'node:events';
import { connect } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { findClockDifference } from '../../../src/commands/check/clock-difference.js';
import { GrpcClient } from '../../../src/gitaly-client/grpc-client.js';
import { StandInGitaly } from '../../support/stand-in-gitaly.js';

const HOUR_MS = 3_600_000;

test.each([
  ['private', HOUR_MS, HOUR_MS],
  ['private', -HOUR_MS, -HOUR_MS],
  ['open', 600_000, 600_000],
  ['open', -HOUR_MS, -HOUR_MS],
  ['open', HOUR_MS, undefined],
] as const)(
  'on a wire that is %s a clock that is %i ms ahead is found to be %s: no token that is good for hours goes where others listen',
  async (wire, clockAheadMs, found) => {
    const gitaly = await StandInGitaly.start({ token: 'secret', clockAheadMs });
    const { hostname, port, host } = new URL(gitaly.url);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    const connection = new GrpcClient(socket, host, 'http');
    onTestFinished(() => connection.close());
    const settings = { timeoutMs: 10_000, token: 'secret', nowMs: Date.now };
    const difference = await findClockDifference(connection, 'secret', wire, settings);
    if (found === undefined) expect(difference).toBeUndefined();
    else expect(Math.abs((difference ?? NaN) - found)).toBeLessThan(3000);
  },
);
