import type { AdminServer } from '../admin/admin-server.js';
import type { Address, HostPort } from '../config/model.js';
import { Listener } from './listener.js';
import { ProxyFailure } from './proxy-failure.js';
import { EMPTY_STATE, type ProxyState } from './serving-state.js';
import type { SocketAccess } from './unix-socket.js';

/** A listener and its id, which its connections refer to. */
export interface NumberedListener {
  readonly id: number;
  readonly listener: Listener;
}

/** A state with the sockets that it is served on. */
export interface BoundState {
  readonly state: ProxyState;
  /** By `ListenerState.key`, in the configuration's order. */
  readonly listeners: ReadonlyMap<string, NumberedListener>;
  readonly admin: AdminServer | undefined;
}

/** The state before the first one: nothing is bound. */
export const NOTHING_BOUND: BoundState = { state: EMPTY_STATE, listeners: new Map(), admin: undefined };

/** The inputs of binding besides the state. */
interface Binding {
  /** The id of each listener, by `ListenerState.key`. */
  readonly ids: ReadonlyMap<string, number>;
  /** Descriptors of sockets that are already bound. */
  readonly descriptors: ReadonlyMap<Address | HostPort, readonly number[]>;
  readonly listenAdmin: (address: HostPort, inherited: readonly number[]) => Promise<AdminServer>;
}

/**
 * Binds the addresses that the previous state did not have, and keeps its other sockets.
 * @throws ProxyFailure; then none of the new addresses stays bound, and the access to kept unix sockets is as before
 */
export async function bindState(
  state: ProxyState,
  previous: BoundState,
  { ids, descriptors, listenAdmin }: Binding,
): Promise<BoundState> {
  const bound: { close(): void }[] = [];
  const listeners = new Map<string, NumberedListener>();
  try {
    for (const { key, configuration, access } of state.listeners) {
      const former = previous.listeners.get(key);
      if (former) {
        listeners.set(key, former);
        continue;
      }
      const { listen } = configuration;
      const listener = await orFailure(
        Listener.bind(listen, { inherited: descriptors.get(listen) ?? [], access }),
        `cannot listen on ${listen.url}`,
      );
      bound.push(listener);
      listeners.set(key, { id: ids.get(key) ?? 0, listener });
    }
    const wanted = state.configuration.prometheusListenAddr;
    let admin = sameAddress(wanted, previous.state.configuration.prometheusListenAddr)
      ? previous.admin
      : undefined;
    if (wanted && !admin) {
      admin = await orFailure(
        listenAdmin(wanted, descriptors.get(wanted) ?? []),
        `cannot listen on prometheus_listen_addr ${wanted.host}:${wanted.port}`,
      );
      bound.push(admin);
    }
    await changeAccess(state, listeners, previous.state);
    return { state, listeners, admin };
  } catch (error) {
    for (const one of bound) one.close();
    throw error;
  }
}

/** Closes the sockets of a state that another state does not have. */
export function closeSocketsNotIn(kept: BoundState, { listeners, admin }: BoundState): void {
  for (const [key, { listener }] of listeners) if (!kept.listeners.has(key)) listener.close();
  if (admin !== kept.admin) admin?.close();
}

/**
 * Changes the access to kept unix sockets.
 * @throws ProxyFailure; the previous access is restored then
 */
async function changeAccess(
  state: ProxyState,
  listeners: ReadonlyMap<string, NumberedListener>,
  previous: ProxyState,
): Promise<void> {
  const former = new Map(previous.listeners.map(({ key, access }) => [key, access]));
  const changed: { readonly listener: Listener; readonly access: SocketAccess }[] = [];
  try {
    for (const { key, configuration, access } of state.listeners) {
      const before = former.get(key);
      const listener = listeners.get(key)?.listener;
      if (!before || !listener) continue;
      await orFailure(listener.setAccess(access), `cannot change the access to ${configuration.listen.url}`);
      changed.push({ listener, access: before });
    }
  } catch (error) {
    for (const { listener, access } of changed) await listener.setAccess(access).catch(() => undefined);
    throw error;
  }
}

function sameAddress(one: HostPort | undefined, other: HostPort | undefined): boolean {
  return one?.host === other?.host && one?.port === other?.port;
}

async function orFailure<T>(work: Promise<T>, what: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new ProxyFailure('system', [`${what}: ${error instanceof Error ? error.message : String(error)}`]);
  }
}
