import { randomOf } from '../seeded-random.js';

/** What a client speaks. The first two are spoken by hand, the others by grpc-js. */
export const KINDS = [
  'http2',
  'backchannel',
  'unary',
  'server stream',
  'client stream',
  'both streams',
] as const;
export type Kind = (typeof KINDS)[number];

/** Where TLS is: towards the client, nowhere, or towards Gitaly. */
export const ROUTES = ['tls to tcp', 'tcp to tcp', 'tcp to tls'] as const;
export type Route = (typeof ROUTES)[number];

/** Between client and proxy, or between proxy and Gitaly. */
export type Side = 'near' | 'far';

/** From the client to Gitaly, or back. */
export type Way = 'up' | 'down';

/** How one way of one side carries bytes. Each is late by `latencyMs` and up to `jitterMs` more; none overtakes another. */
export interface Pace {
  readonly latencyMs: number;
  readonly jitterMs: number;
  /** How the first `slicedBytes` are cut, each slice being sent in a turn of the event loop of its own. */
  readonly slices: 'as they come' | 'one byte' | 'odd';
  readonly slicedBytes: number;
}

/**
 * What befalls a side of a connection once so many bytes have gone one way.
 *
 * - `pause`: this way stands still for `forMs`, which is less than every deadline of the proxy;
 * - `stall`: it stands still until the proxy has given the connection up;
 * - `cut`: both ends are told that the other has finished (FIN), which it has not;
 * - `reset`: both ends are reset;
 * - `vanish`: the peer of the proxy is gone, and nobody says so: no FIN, no RST, nothing read, nothing written.
 */
export interface Fault {
  readonly kind: FaultKind;
  readonly side: Side;
  readonly way: Way;
  readonly afterBytes: number;
  readonly forMs: number;
}

export const FAULTS = ['pause', 'stall', 'cut', 'reset', 'vanish'] as const;
export type FaultKind = (typeof FAULTS)[number];

/** All that is drawn for one connection. */
export interface Plan {
  readonly number: number;
  readonly route: Route;
  readonly tlsVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly kind: Kind;
  readonly bytes: Readonly<Record<Way, number>>;
  readonly paces: Readonly<Record<Side, Readonly<Record<Way, Pace>>>>;
  readonly faults: readonly Fault[];
  /** Seeds what is drawn while the connection runs: jitter, and where slices and frames are cut. */
  readonly seed: number;
}

/** More than Linux and the proxy hold for a peer that does not read: a stall is one of `timeouts.write_stall` then. */
const LARGE_BYTES = 8 * 1024 * 1024;

/** Sizes of a connection's content, drawn evenly; what a call or a small push, a push and a large one carry. */
const SIZES = [2000, 2000, 20_000, 20_000, 100_000, 400_000] as const;

/** What comes before the content: handshakes, prefaces, headers. A third of all faults falls into it. */
const OPENING_BYTES = 3000;

/** The plan of a connection: the same for the same seed and number, whatever else runs. */
export function drawPlan(seed: number, number: number): Plan {
  const random = randomOf(seed ^ Math.imul(number + 1, 0x9e3779b1));
  const pick = <const T>(of: readonly [T, ...T[]]): T => of[random(of.length)] ?? of[0];
  const route = pick(['tls to tcp', 'tls to tcp', 'tls to tcp', 'tcp to tcp', 'tcp to tls']);
  const tlsVersion = pick(['TLSv1.3', 'TLSv1.3', 'TLSv1.2']);
  const kind = pick(['http2', 'http2', 'backchannel', 'backchannel', ...KINDS.slice(2)]);
  const bytes = { up: random(pick(SIZES)), down: random(pick(SIZES)) };
  const paces = {
    near: { up: drawPace(random), down: drawPace(random) },
    far: { up: drawPace(random), down: drawPace(random) },
  };
  const faults: Fault[] = [];
  // Of ten connections four have none, five have one, one has one on each side.
  const luck = random(10);
  const sides: readonly Side[] = luck < 4 ? [] : luck < 9 ? [pick(['near', 'far'])] : ['near', 'far'];
  for (const side of sides) {
    const way = pick(['up', 'down']);
    const faultKind = pick(['pause', 'pause', 'stall', 'cut', 'reset', 'reset', 'reset', 'vanish']);
    const isByHand = kind === 'http2' || kind === 'backchannel';
    const isSilent = faultKind === 'stall' || faultKind === 'vanish';
    if (isByHand && isSilent && random(3) === 0) bytes[way] = LARGE_BYTES;
    const afterBytes = random(
      random(3) === 0 ? OPENING_BYTES : OPENING_BYTES + Math.min(bytes[way], 500_000),
    );
    faults.push({ kind: faultKind, side, way, afterBytes, forMs: 100 + random(900) });
  }
  return { number, route, tlsVersion, kind, bytes, paces, faults, seed: random(2 ** 31) };
}

/** Whether all that the network does to it is to take its time: then nothing may be lost. */
export function isHarmless({ faults }: Plan): boolean {
  return faults.every(({ kind }) => kind === 'pause');
}

function drawPace(random: (below: number) => number): Pace {
  const [latencyMs, jitterMs] = random(3) === 0 ? [random(30), random(30)] : [0, 0];
  const luck = random(10);
  if (luck < 6) return { latencyMs, jitterMs, slices: 'as they come', slicedBytes: 0 };
  if (luck < 8) return { latencyMs, jitterMs, slices: 'one byte', slicedBytes: 50 + random(100) };
  return { latencyMs, jitterMs, slices: 'odd', slicedBytes: 100_000 };
}
