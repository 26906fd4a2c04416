import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import { randomOf } from '../seeded-random.js';
import type { Fault, Plan, Side, Way } from './plan.js';
import { ToxicPipe } from './toxic-pipe.js';

/** Who is told of what a relay does. */
export interface RelayEvents {
  happened(fault: Fault): void;
  /** The end that is not the proxy's is gone with all that it had. */
  vanished(): void;
}

/** One connection through one side of the toxic network. */
export class ToxicRelay {
  /** Settles when both sockets are closed. */
  readonly closed: Promise<unknown>;
  readonly #sockets: readonly [client: Socket, server: Socket];
  readonly #pipes: readonly ToxicPipe[];
  readonly #side: Side;
  readonly #events: RelayEvents;
  #release: () => void = () => undefined;
  readonly #released: Promise<void>;
  #state: 'running' | 'ended' = 'running';

  /** `client` and `server` are the ends of this side, as they stand in the network; both are connected. */
  constructor(plan: Plan, side: Side, client: Socket, server: Socket, events: RelayEvents) {
    this.#side = side;
    this.#events = events;
    this.#sockets = [client, server];
    this.#released = new Promise((resolve) => (this.#release = resolve));
    this.closed = Promise.all(
      this.#sockets.map(async (socket) => {
        socket.setNoDelay(true);
        // Looked at when it closes.
        socket.on('error', () => undefined);
        if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
      }),
    );
    this.#pipes = [this.#pipe(plan, 'up', client, server), this.#pipe(plan, 'down', server, client)];
  }

  /** The proxy has given the connection up: what stands still moves on, and what has vanished is put away. */
  release(): void {
    this.#release();
  }

  #pipe(plan: Plan, way: Way, source: Socket, sink: Socket): ToxicPipe {
    return new ToxicPipe(source, sink, {
      pace: plan.paces[this.#side][way],
      faults: plan.faults.filter((fault) => fault.side === this.#side && fault.way === way),
      random: randomOf(plan.seed + (this.#side === 'near' ? 0 : 2) + (way === 'up' ? 0 : 1)),
      onFault: (fault) => this.#befall(fault),
      onBroken: () => this.#breakOff(),
    });
  }

  async #befall(fault: Fault): Promise<void> {
    if (this.#state !== 'running') return;
    this.#events.happened(fault);
    switch (fault.kind) {
      case 'pause':
        await Promise.race([pause(fault.forMs), this.#released]);
        break;
      case 'stall':
        await this.#released;
        break;
      case 'cut':
        this.#end();
        for (const socket of this.#sockets) {
          socket.end();
          // What comes still is dropped, as by a host that has closed its socket, but without a reset for it.
          socket.removeAllListeners('data').resume();
          socket.once('end', () => socket.destroy());
        }
        await this.#putAway();
        break;
      case 'reset':
        this.#breakOff();
        break;
      case 'vanish': {
        this.#end();
        const [client, server] = this.#sockets;
        (this.#side === 'near' ? client : server).resetAndDestroy();
        this.#events.vanished();
        await this.#putAway();
        break;
      }
    }
  }

  /** A fault may come to pass when the proxy has given the connection up already: what is on its way still moves. */
  async #putAway(): Promise<void> {
    await this.#released;
    this.#breakOff();
  }

  /** Carries nothing any more. */
  #end(): void {
    this.#state = 'ended';
    for (const pipe of this.#pipes) pipe.stop();
  }

  #breakOff(): void {
    this.#end();
    for (const socket of this.#sockets) {
      // While an end of ours is under way libuv refuses to reset and would keep the descriptor.
      if (socket.writableEnded && !socket.writableFinished) socket.destroy();
      else socket.resetAndDestroy();
    }
  }
}

/** Where somebody listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A place in the toxic network where connections arrive. */
export class ToxicPort {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens on a free port of 127.0.0.1. `serve` has each connection that arrives, and what it is connected with: what
   * `target` says at that moment.
   */
  static async listen(
    target: () => Address,
    serve: (client: Socket, server: Socket) => void,
  ): Promise<ToxicPort> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      client.on('error', () => undefined);
      const onward = connect({ ...target(), allowHalfOpen: true });
      const refused = (): void => void client.resetAndDestroy();
      onward.once('error', refused);
      onward.once('connect', () => {
        onward.off('error', refused);
        serve(client, onward);
      });
    });
    server.listen({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
    return new ToxicPort(server);
  }

  get port(): number {
    const address: AddressInfo | string | null = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
    return address.port;
  }

  /** Nobody can connect any more; connections go on. */
  close(): void {
    this.#server.close();
  }
}
