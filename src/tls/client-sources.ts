import { FLIGHT_GUARD_MS, MAX_KNOWN_SOURCES, MAX_UNGUARDED_HANDSHAKES } from '../limits.js';
import { sourceNetwork } from './source-network.js';

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
