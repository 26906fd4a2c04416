import { once } from 'node:events';
import { connect, createServer, Socket } from 'node:net';

import fc from 'fast-check';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';

import { HAPPY_EYEBALLS_DELAY_MS } from '../../src/limits.js';
import { UpstreamFailure } from '../../src/upstream/failure.js';
import { alternateFamilies, dialHost } from '../../src/upstream/happy-eyeballs.js';

/** The answer of the resolver for `several.test`; other names are really resolved. */
const NEVER = new AbortController().signal;
const resolver = vi.hoisted(() => ({ addresses: [] as { address: string; family: 4 | 6 }[] }));

type LookupAll = (
  host: string,
  options: { all: true },
  done: (error: Error | null, addresses: typeof resolver.addresses) => void,
) => void;

vi.mock('node:dns', async (importOriginal) => {
  const original = await importOriginal<{ lookup: LookupAll }>();
  const lookup: LookupAll = (host, options, done) => {
    if (host === 'several.test') setImmediate(() => done(null, resolver.addresses));
    else original.lookup(host, options, done);
  };
  return { ...original, lookup };
});

const [FIRST, SECOND, THIRD] = ['2001:db8::1', '192.0.2.1', '192.0.2.2'];

beforeEach(() => {
  resolver.addresses = [
    { address: FIRST, family: 6 },
    { address: SECOND, family: 4 },
    { address: THIRD, family: 4 },
  ];
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
});

/** Attempts that the test decides on; the sockets are real, and the addresses are never asked. */
class Attempts {
  readonly sockets = new Map<string, Socket>();
  readonly #waiting = new Map<string, () => void>();
  readonly #answering: ReadonlyMap<string, number>;

  /** Ports of 127.0.0.1 that answer for an address; all others are silent. */
  constructor(answering: ReadonlyMap<string, number> = new Map()) {
    this.#answering = answering;
  }

  readonly attempt = (address: string): Socket => {
    const port = this.#answering.get(address);
    const socket = port === undefined ? new Socket() : connect({ host: '127.0.0.1', port });
    this.sockets.set(address, socket);
    this.#waiting.get(address)?.();
    return socket;
  };

  /** The socket of the attempt on an address, as soon as there is one. */
  async begun(address: string): Promise<Socket> {
    if (!this.sockets.has(address)) await new Promise<void>((resolve) => this.#waiting.set(address, resolve));
    const socket = this.sockets.get(address);
    if (!socket) throw new Error('not begun');
    return socket;
  }

  /** The attempt on an address fails. */
  async fail(address: string, message: string): Promise<void> {
    (await this.begun(address)).destroy(new Error(message));
  }
}

async function listen(): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  server.listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not bound');
  return address.port;
}

describe('dialHost', () => {
  test('an address is dialled without asking the resolver', async () => {
    const port = await listen();
    const attempts = new Attempts(new Map([['127.0.0.1', port]]));
    const socket = await dialHost('127.0.0.1', port, NEVER, attempts.attempt);
    expect(socket.remotePort).toBe(port);
    socket.destroy();
  });

  test('a first address that does not answer is overtaken by the second after a moment, and closed', async () => {
    const port = await listen();
    const attempts = new Attempts(new Map([[SECOND, port]]));
    const dial = dialHost('several.test', port, NEVER, attempts.attempt);
    const silent = await attempts.begun(FIRST);
    vi.advanceTimersByTime(HAPPY_EYEBALLS_DELAY_MS - 1);
    expect([...attempts.sockets.keys()]).toEqual([FIRST]);
    vi.advanceTimersByTime(1);
    expect([...attempts.sockets.keys()]).toEqual([FIRST, SECOND]);
    const socket = await dial;
    expect(socket).toBe(attempts.sockets.get(SECOND));
    expect(socket.destroyed).toBe(false);
    expect(silent.destroyed).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
    expect(attempts.sockets.has(THIRD)).toBe(false);
    socket.destroy();
  });

  test('a first address that is slow still wins when it answers before the second', async () => {
    const port = await listen();
    const attempts = new Attempts();
    const dial = dialHost('several.test', port, NEVER, attempts.attempt);
    const slow = await attempts.begun(FIRST);
    vi.advanceTimersByTime(HAPPY_EYEBALLS_DELAY_MS);
    const second = await attempts.begun(SECOND);
    slow.connect({ host: '127.0.0.1', port });
    expect(await dial).toBe(slow);
    expect(second.destroyed).toBe(true);
    slow.destroy();
  });

  test('after a failure the next address is tried at once', async () => {
    const port = await listen();
    const attempts = new Attempts(new Map([[THIRD, port]]));
    const dial = dialHost('several.test', port, NEVER, attempts.attempt);
    await attempts.fail(FIRST, 'first is down');
    await attempts.fail(SECOND, 'second is down');
    const socket = await dial;
    expect(socket).toBe(attempts.sockets.get(THIRD));
    expect(vi.getTimerCount()).toBe(0);
    socket.destroy();
  });

  test('when all fail, the message names all', async () => {
    const attempts = new Attempts();
    const dial = dialHost('several.test', 8075, NEVER, attempts.attempt);
    const refused = expect(dial).rejects.toThrow(
      'connect ECONNREFUSED 1; connect ECONNREFUSED 2; connect ETIMEDOUT 3',
    );
    await attempts.fail(FIRST, 'connect ECONNREFUSED 1');
    await attempts.fail(SECOND, 'connect ECONNREFUSED 2');
    await attempts.fail(THIRD, 'connect ETIMEDOUT 3');
    await refused;
    expect(vi.getTimerCount()).toBe(0);
  });

  test('an abort ends all attempts with its reason', async () => {
    const attempts = new Attempts();
    const aborting = new AbortController();
    const dial = dialHost('several.test', 8075, aborting.signal, attempts.attempt);
    const rejected = expect(dial).rejects.toThrow('no time left');
    await attempts.begun(FIRST);
    vi.advanceTimersByTime(HAPPY_EYEBALLS_DELAY_MS);
    await attempts.begun(SECOND);
    aborting.abort(new Error('no time left'));
    await rejected;
    expect([...attempts.sockets.values()].map(({ destroyed }) => destroyed)).toEqual([true, true]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('an abort before the name is resolved begins no attempt', async () => {
    const attempts = new Attempts();
    const aborting = new AbortController();
    const dial = dialHost('several.test', 8075, aborting.signal, attempts.attempt);
    aborting.abort(new Error('no time left'));
    await expect(dial).rejects.toThrow('no time left');
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    expect(attempts.sockets.size).toBe(0);
  });

  test('a name that does not resolve is named in the error', async () => {
    const attempts = new Attempts();
    // RFC 6761 section 6.4: a resolver answers names under `invalid.` with "no such name".
    const failure: unknown = await dialHost('gitaly.invalid', 8075, NEVER, attempts.attempt).catch(
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(UpstreamFailure);
    expect(failure).toMatchObject({
      reason: 'name_not_found',
      message: expect.stringMatching(
        /^the name gitaly\.invalid \(port 8075\) does not resolve: (ENOTFOUND|EAI_AGAIN)$/,
      ) as string,
    });
    expect(attempts.sockets.size).toBe(0);
  });
});

describe('alternateFamilies', () => {
  const address = fc.record({
    address: fc.uuid(),
    family: fc.constantFrom(4 as const, 6 as const),
  });

  test('keeps all, begins with the first, and alternates while there are both', () => {
    fc.assert(
      fc.property(fc.array(address), (addresses) => {
        const ordered = alternateFamilies(addresses);
        const familyOf = new Map(addresses.map(({ address: text, family }) => [text, family]));
        expect([...ordered].sort()).toEqual(addresses.map(({ address: text }) => text).sort());
        expect(ordered[0]).toBe(addresses[0]?.address);
        const families = ordered.map((text) => familyOf.get(text));
        const fewer = Math.min(
          families.filter((family) => family === 4).length,
          families.filter((family) => family === 6).length,
        );
        for (let index = 1; index < 2 * fewer; index++) expect(families[index]).not.toBe(families[index - 1]);
        // Within a family the resolver's order stays.
        for (const family of [4, 6]) {
          const own = (text: string): boolean => familyOf.get(text) === family;
          expect(ordered.filter(own)).toEqual(addresses.map(({ address: text }) => text).filter(own));
        }
      }),
    );
  });
});
