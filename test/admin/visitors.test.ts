import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';

import { describe, expect, test } from 'vitest';

import { Visitors } from '../../src/admin/visitors.js';
import { MAX_ADMIN_CONNECTIONS } from '../../src/limits.js';

const [BUSY, PROBE] = ['10.0.0.1', '10.0.0.2'];

/** A connection from this address. */
class Connection extends Socket {
  override readonly remoteAddress: string;

  constructor(source: string) {
    super();
    this.remoteAddress = source;
  }
}

/** The connections of one address, as many as there may be, and each waits for an answer. */
function startBusy(): { busy: Connection[]; connect: (source: string) => Connection } {
  const visitors = new Visitors();
  const connect = (source: string): Connection => {
    const connection = new Connection(source);
    visitors.enter(connection);
    return connection;
  };
  const busy = Array.from({ length: MAX_ADMIN_CONNECTIONS }, () => connect(BUSY));
  for (const connection of busy)
    visitors.serve(
      connection,
      new ServerResponse(new IncomingMessage(connection)),
      () => new Promise(() => undefined),
    );
  return { busy, connect };
}

describe('connections of one address that all wait for an answer', () => {
  test('do not close the connection of another that has not sent its request yet', async () => {
    const { busy, connect } = startBusy();
    await Promise.resolve();
    const probe = connect(PROBE);
    const more = Array.from({ length: 2 * MAX_ADMIN_CONNECTIONS }, () => connect(BUSY));
    expect(probe.destroyed).toBe(false);
    const open = [...busy, ...more].filter(({ destroyed }) => !destroyed);
    expect(open).toHaveLength(MAX_ADMIN_CONNECTIONS - 1);
  });

  test('make room for the connection of another', async () => {
    const { busy, connect } = startBusy();
    await Promise.resolve();
    expect(connect(PROBE).destroyed).toBe(false);
    expect(busy.filter(({ destroyed }) => destroyed)).toHaveLength(1);
  });
});
