import type { Socket } from 'node:net';

import { socketEnd, type SocketEnd } from './peer-address.js';

/** The facts of a connection at accept. They are read then, because the address is unavailable once the client has disconnected. */
export interface Arrival {
  /** Unique since the start of the process. */
  readonly id: number;
  readonly peer: SocketEnd | undefined;
  readonly local: SocketEnd | undefined;
}

/** A connection that was accepted but not read yet. */
export interface Accepted extends Arrival {
  readonly raw: Socket;
}

let connections = 0;

/** Describes a socket that has just been accepted. */
export function accepted(raw: Socket): Accepted {
  return {
    id: ++connections,
    raw,
    peer: socketEnd(raw.remoteAddress, raw.remotePort),
    local: socketEnd(raw.localAddress, raw.localPort),
  };
}
