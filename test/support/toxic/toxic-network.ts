import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { createSecureContext } from 'node:tls';

import { credentials } from '@grpc/grpc-js';

import type { Authority, Issued } from '../authority.js';
import type { LogLines } from '../log-lines.js';
import { grpcGitaly } from './grpc-gitaly.js';
import { handGitaly } from './hand-gitaly.js';
import type { Verdict } from './judge.js';
import { Lane, type Surroundings } from './lane.js';
import { drawPlan, ROUTES, type Plan, type Route } from './plan.js';
import { Slots } from './slots.js';
import { Tally } from './tally.js';
import type { Address } from './toxic-relay.js';
import { Witness } from './witness.js';

/** How many connections of ten take each route. */
const SHARES: Readonly<Record<Route, number>> = { 'tls to tcp': 6, 'tcp to tcp': 2, 'tcp to tls': 2 };

/**
 * Deadlines that are short, as what stands still or vanishes is ended by them, and longer than what a network that is only slow
 * may take on a machine that is busy.
 */
const TIMEOUTS = {
  handshake: '10s',
  preface: '10s',
  dial: '10s',
  half_close: '3s',
  write_stall: '3s',
  idle: '4s',
};

/**
 * On so many connections bytes move at a time. On more, a machine that is busy would make harmless ones late enough for a
 * deadline; they would not be done sooner.
 */
const MOVING = 20;

/** Which connections are run. */
export interface ToxicRun {
  readonly seed: number;
  readonly connections: number;
  /** Only the connection of this number. */
  readonly only?: number | undefined;
  /** Is told of each failure when it is seen, in words. */
  readonly onFailure?: ((failure: string) => void) | undefined;
}

/**
 * The network on both sides of a proxy, with its clients and what stands in Gitaly's place. The proxy is started by whoever uses
 * this, with `configuration`; its log tells where it listens and how each connection ended.
 */
export class ToxicNetwork {
  /** Of the proxy. */
  readonly configuration: Readonly<Record<string, unknown>>;
  readonly tally = new Tally();
  readonly #lanes: ReadonlyMap<string, { readonly route: Route; readonly lane: Lane }>;
  readonly #witness: Witness;
  readonly #stop: () => void;

  private constructor(
    lanes: ReadonlyMap<string, { readonly route: Route; readonly lane: Lane }>,
    configuration: Readonly<Record<string, unknown>>,
    witness: Witness,
    stop: () => void,
  ) {
    this.#lanes = lanes;
    this.configuration = configuration;
    this.#witness = witness;
    this.#stop = stop;
  }

  /** Starts what the proxy needs to be started, for ten times `tens` connections at once. */
  static async start(ca: Authority, tens: number): Promise<ToxicNetwork> {
    const witness = new Witness();
    const server = await ca.server();
    const gitalys = await startGitalys(witness, server);
    const trusted = Buffer.from(ca.caPem);
    const surroundings: Surroundings = {
      witness,
      slots: new Slots(MOVING),
      gitalyPort: gitalys.port,
      secureContexts: {
        'TLSv1.2': createSecureContext({ ca: trusted, maxVersion: 'TLSv1.2' }),
        'TLSv1.3': createSecureContext({ ca: trusted, minVersion: 'TLSv1.3' }),
      },
      credentials: { tls: credentials.createSsl(trusted), plain: credentials.createInsecure() },
    };
    const lanes = new Map<string, { route: Route; lane: Lane }>();
    const listeners = [];
    for (const route of ROUTES) {
      for (let index = 0; index < SHARES[route] * tens; index++) {
        const lane = await Lane.open(surroundings);
        const forward = `${route === 'tcp to tls' ? 'tls' : 'tcp'}://127.0.0.1:${lane.farPort}`;
        // All of 127.0.0.0/8 is this machine: each lane has an address of its own, by which the log tells them apart.
        const host = `127.0.${1 + Math.floor(lanes.size / 250)}.${1 + (lanes.size % 250)}`;
        const listen = `${route === 'tls to tcp' ? 'tls' : 'tcp'}://${host}:0`;
        lanes.set(listen, { route, lane });
        listeners.push({
          listen,
          forward,
          ...(route === 'tcp to tls' && { upstream_tls: { ca_path: ca.caPath } }),
        });
      }
    }
    const configuration = {
      tls: { certificate_path: server.certificatePath, key_path: server.keyPath },
      listeners,
      timeouts: TIMEOUTS,
      // Each listener serves one connection at a time; they share the limit of open files.
      max_connections: 10,
      // Those that leave before their first byte are logged on this level alone.
      logging: { level: 'debug', rpc: 'none' },
    };
    return new ToxicNetwork(lanes, configuration, witness, () => {
      for (const { lane } of lanes.values()) lane.close();
      gitalys.stop();
    });
  }

  /** Runs the connections against the proxy whose log this is; what was wrong, each with what was drawn. */
  async run({ seed, connections, only, onFailure }: ToxicRun, log: LogLines): Promise<string[]> {
    const addresses = await listenerAddresses(log);
    log.follow((line) => {
      if ('duration_ms' in line && 'close.reason' in line)
        this.#lanes.get(String(line['listener']))?.lane.proxyClosed(line);
    });
    const waiting: Record<Route, Plan[]> = { 'tls to tcp': [], 'tcp to tcp': [], 'tcp to tls': [] };
    for (let number = 0; number < connections; number++) {
      const plan = drawPlan(seed, number);
      if (only === undefined || only === number) waiting[plan.route].push(plan);
    }
    const failures: string[] = [];
    const failed = (failure: string): void => {
      failures.push(failure);
      onFailure?.(failure);
    };
    const work = async (listen: string, route: Route, lane: Lane): Promise<void> => {
      const address = addresses.get(listen);
      if (!address) throw new Error(`the proxy does not listen on ${listen}`);
      for (let plan = waiting[route].shift(); plan; plan = waiting[route].shift()) {
        const verdict = await lane.run(plan, address);
        this.tally.add(verdict);
        const failure = failureOf(verdict, seed);
        if (failure !== undefined) failed(failure);
      }
    };
    await Promise.all([...this.#lanes].map(([listen, { route, lane }]) => work(listen, route, lane)));
    for (const { number, how } of this.#witness.wrongs)
      failed(`seed ${seed}, connection ${number ?? 'unknown'}: Gitaly: ${how}`);
    return failures;
  }

  stop(): void {
    this.#stop();
  }
}

/** What is wrong with a connection, in words, with all that is known of it. */
function failureOf({ evidence, wrongs }: Verdict, seed: number): string | undefined {
  if (wrongs.length === 0) return undefined;
  const { plan, happened, client, gitaly, line } = evidence;
  return [
    `seed ${seed}, connection ${plan.number}: ${wrongs.join('; ')}`,
    `  drawn: ${JSON.stringify(plan)}`,
    `  came to pass: ${JSON.stringify(happened)}`,
    `  the client saw: ${JSON.stringify(client)}; Gitaly: ${gitaly}; the proxy: ${JSON.stringify(line)}`,
  ].join('\n');
}

/** Where each listener is bound, by its address in the configuration. */
async function listenerAddresses(log: LogLines): Promise<Map<string, Address>> {
  await log.waitForEvent('ready');
  const addresses = new Map<string, Address>();
  for (const { event, listener, listen } of log.lines) {
    if (event !== 'listening') continue;
    const { hostname, port } = new URL(String(listen));
    addresses.set(String(listener), { host: hostname, port: Number(port) });
  }
  return addresses;
}

/** Gitaly's places: for what is spoken by hand and for gRPC, each in plaintext and behind TLS. */
async function startGitalys(
  witness: Witness,
  { certificatePem, keyPem, ...issued }: Issued,
): Promise<{ port: (plan: Plan) => number; stop: () => void }> {
  const byHand = {
    tcp: handGitaly(witness),
    tls: handGitaly(witness, { cert: certificatePem, key: keyPem }),
  };
  for (const server of Object.values(byHand)) {
    server.listen({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
  }
  const grpc = {
    tcp: await grpcGitaly(witness),
    tls: await grpcGitaly(witness, { certificatePem, keyPem, ...issued }),
  };
  return {
    port: ({ kind, route }) => {
      const which = route === 'tcp to tls' ? 'tls' : 'tcp';
      return kind === 'http2' || kind === 'backchannel' ? portOf(byHand[which]) : grpc[which].port;
    },
    stop: () => {
      for (const server of Object.values(byHand)) server.close();
      for (const { stop } of Object.values(grpc)) stop();
    },
  };
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  return address.port;
}
