import { setTimeout as pause } from 'node:timers/promises';
import type { SecureContext } from 'node:tls';

import type { ChannelCredentials } from '@grpc/grpc-js';

import type { LogLine } from '../log-lines.js';
import { exchangeOf, type Exchange } from './content.js';
import { GrpcAttempt } from './grpc-attempt.js';
import { HandClient } from './hand-client.js';
import { judge, type Verdict } from './judge.js';
import type { Fault, Plan } from './plan.js';
import type { Attempt } from './seen.js';
import { ToxicPort, type Address, ToxicRelay } from './toxic-relay.js';
import type { Slots } from './slots.js';
import type { Witness } from './witness.js';

/** Longer than all deadlines of the proxy one after the other: who has seen nothing by then hangs. */
const HANG_MS = 45_000;

/** What all lanes share. */
export interface Surroundings {
  readonly witness: Witness;
  /** For connections on which bytes move; those that stand still need none. */
  readonly slots: Slots;
  /** Where Gitaly's place listens for a plan. */
  gitalyPort(plan: Plan): number;
  readonly secureContexts: Readonly<Record<Plan['tlsVersion'], SecureContext>>;
  readonly credentials: Readonly<Record<'tls' | 'plain', ChannelCredentials>>;
}

/**
 * A listener of the proxy with the toxic network on both of its sides. It serves one connection after the other, so that the
 * network knows on either side which one it has.
 */
export class Lane {
  readonly #surroundings: Surroundings;
  /** What the proxy's listener forwards to. */
  #far: ToxicPort | undefined;
  #plan: Plan | undefined;
  #relays: ToxicRelay[] = [];
  #attempt: Attempt | undefined;
  #happened: Fault[] = [];
  #giveBack: () => void = () => undefined;
  #closed: (line: LogLine) => void = () => undefined;

  private constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  static async open(surroundings: Surroundings): Promise<Lane> {
    const lane = new Lane(surroundings);
    lane.#far = await ToxicPort.listen(
      () => ({ host: '127.0.0.1', port: surroundings.gitalyPort(lane.#current) }),
      (proxy, gitaly) =>
        lane.#relays.push(
          new ToxicRelay(lane.#current, 'far', proxy, gitaly, {
            happened: (fault) => lane.#befallen(fault),
            vanished: () => undefined,
          }),
        ),
    );
    return lane;
  }

  /** The port of its far side. */
  get farPort(): number {
    if (!this.#far) throw new Error('the lane is not open');
    return this.#far.port;
  }

  close(): void {
    this.#far?.close();
  }

  /** The proxy's log line of a connection of this lane's listener. */
  proxyClosed(line: LogLine): void {
    this.#closed(line);
  }

  /** Runs one connection from its begin to its end on all sides. */
  async run(plan: Plan, listener: Address): Promise<Verdict> {
    const { witness } = this.#surroundings;
    this.#plan = plan;
    this.#relays = [];
    this.#happened = [];
    this.#giveBack = await this.#surroundings.slots.take();
    const exchange = exchangeOf(plan);
    witness.expect(exchange);
    const closed = new Promise<LogLine>((resolve) => (this.#closed = resolve));
    const near = await ToxicPort.listen(
      () => listener,
      (client, proxy) => {
        near.close();
        this.#relays.push(
          new ToxicRelay(plan, 'near', client, proxy, {
            happened: (fault) => this.#befallen(fault),
            vanished: () => this.#attempt?.vanish(),
          }),
        );
      },
    );
    const attempt = this.#begin(exchange, near.port);
    this.#attempt = attempt;
    const line = await withinReason(closed);
    this.#giveBack();
    for (const relay of this.#relays) relay.release();
    const client = await withinReason(attempt.seen);
    // What has been passed on reaches Gitaly's place before its socket is closed.
    const settled = await withinReason(Promise.all(this.#relays.map((relay) => relay.closed)));
    attempt.vanish();
    near.close();
    return judge({
      plan,
      happened: this.#happened,
      client,
      line,
      isSettled: settled !== undefined,
      gitaly: witness.tell(plan.number),
    });
  }

  #befallen(fault: Fault): void {
    this.#happened.push(fault);
    this.#giveBack();
  }

  get #current(): Plan {
    if (!this.#plan) throw new Error('the proxy dialled before any client came');
    return this.#plan;
  }

  #begin(exchange: Exchange, port: number): Attempt {
    const { plan } = exchange;
    const { secureContexts, credentials } = this.#surroundings;
    const isTls = plan.route === 'tls to tcp';
    const { kind } = plan;
    if (kind !== 'http2' && kind !== 'backchannel')
      return new GrpcAttempt(exchange, kind, port, credentials[isTls ? 'tls' : 'plain']);
    return new HandClient(exchange, {
      port,
      secureContext: isTls ? secureContexts[plan.tlsVersion] : undefined,
    });
  }
}

/** The value, or `undefined` if it does not come. */
async function withinReason<T>(promise: Promise<T>): Promise<T | undefined> {
  const abort = new AbortController();
  const late = pause(HANG_MS, undefined, { signal: abort.signal }).catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    abort.abort();
  }
}
