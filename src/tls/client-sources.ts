import { isIP } from 'node:net';

import { FLIGHT_GUARD_MS, MAX_KNOWN_SOURCES, MAX_UNGUARDED_HANDSHAKES } from '../limits.js';

/** A handshake that OpenSSL reads directly. */
export interface UnguardedHandshake {
  /** Must be called when the handshake has ended; further calls do nothing. */
  end(): void;
}

/**
 * The addresses from which clients with a verified certificate have connected: handshakes from these are not guarded.
 *
 * An attacker can share such an address, for example behind a load balancer. So an attack from a known address makes it
 * unknown, and for some minutes afterwards (the alarm) no address is treated as known. Until the attack is noticed, the limit
 * on concurrent unguarded handshakes bounds its cost.
 */
export class ClientSources {
  /** The least recently verified first. */
  readonly #known = new Set<string>();
  /** The number of unguarded handshakes in progress. */
  readonly #unguarded = new Map<string, number>();
  #alarmUntilMs = Number.NEGATIVE_INFINITY;

  /** Records that a client with a verified certificate has connected from this address. */
  authenticated(address: string | undefined): void {
    const network = sourceNetwork(address);
    if (network === undefined) return;
    this.#known.delete(network);
    this.#known.add(network);
    if (this.#known.size <= MAX_KNOWN_SOURCES) return;
    for (const oldest of this.#known) {
      this.#known.delete(oldest);
      break;
    }
  }

  /** Whether the next handshake from this address need not be guarded. */
  isTrusted(address: string | undefined, nowMs: number): boolean {
    const network = sourceNetwork(address);
    return network !== undefined && this.#known.has(network) && nowMs >= this.#alarmUntilMs;
  }

  /** Starts a handshake without a guard; `undefined` if it must be guarded. */
  begin(address: string | undefined, nowMs: number): UnguardedHandshake | undefined {
    const network = sourceNetwork(address);
    if (network === undefined || !this.isTrusted(address, nowMs)) return undefined;
    const count = this.#unguarded.get(network) ?? 0;
    if (count >= MAX_UNGUARDED_HANDSHAKES) return undefined;
    this.#unguarded.set(network, count + 1);
    let hasEnded = false;
    return {
      end: () => {
        if (hasEnded) return;
        hasEnded = true;
        const left = (this.#unguarded.get(network) ?? 1) - 1;
        if (left > 0) this.#unguarded.set(network, left);
        else this.#unguarded.delete(network);
      },
    };
  }

  /**
   * Records that a client at this address sent certificates that exceed a limit.
   *
   * @param wasGuarded - whether they were refused before OpenSSL read them. A guarded client at an unknown address has caused
   * no cost, so it cannot raise the alarm.
   */
  attackedFrom(address: string | undefined, wasGuarded: boolean, nowMs: number): void {
    const network = sourceNetwork(address);
    const wasKnown = network !== undefined && this.#known.delete(network);
    if (wasKnown || !wasGuarded) this.#alarmUntilMs = nowMs + FLIGHT_GUARD_MS;
  }
}

const GROUPS = 8;
/** The first groups of an IPv6 address, 64 bits: one machine or one network may use all addresses that share them. */
const NETWORK_GROUPS = 4;

/**
 * The part of an address that identifies a client's machine or network: an IPv4 address, also if it is mapped into IPv6, or the
 * /64 of an IPv6 address, with the zone of a link-local one. All spellings of an address have the same result.
 *
 * @returns `undefined` for a client without an address, as on a unix socket, and for text that is not an address.
 */
export function sourceNetwork(address: string | undefined): string | undefined {
  if (address === undefined) return undefined;
  const family = isIP(address);
  if (family === 4) return address;
  if (family !== 6) return undefined;
  const [digits = '', zone] = address.split('%');
  const groups = groupsOf(digits);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff)
    return groups
      .slice(6)
      .flatMap((group) => [group >> 8, group & 0xff])
      .join('.');
  const network = groups
    .slice(0, NETWORK_GROUPS)
    .map((group) => group.toString(16))
    .join(':');
  return `${network}::/64${zone === undefined ? '' : `%${zone}`}`;
}

/** The eight numbers of a valid IPv6 address. */
function groupsOf(digits: string): number[] {
  const [head = '', tail] = digits.split('::');
  const before = numbersOf(head);
  if (tail === undefined) return before;
  const after = numbersOf(tail);
  const zeros = Array<number>(GROUPS - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after];
}

function numbersOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}
