import { readFileSync, readlinkSync } from 'node:fs';
import { SocketAddress } from 'node:net';

import { formatHostPort } from '../config/host-port.js';
import type { HostPort, UnixAddress } from '../config/model.js';
import { addressesOf } from '../process/bind-host.js';

/** sd_listen_fds(3), SD_LISTEN_FDS_START. */
const FIRST_DESCRIPTOR = 3;

/** proc(5): in /proc/net/tcp the state TCP_LISTEN, in /proc/net/unix the flag SO_ACCEPTCON and the type SOCK_STREAM. */
const TCP_LISTEN = '0A';
const UNIX_LISTEN = '00010000 0001';

/** An address to listen on. */
export type ListenAddress = HostPort | UnixAddress;

/** A descriptor that systemd has handed over. */
interface Inherited {
  readonly fd: number;
  /** The name of the socket unit, or its `FileDescriptorName=`. */
  readonly name: string;
  /** `host:port` or `unix:path`, as it is bound; `undefined` if it is not a listening stream socket. */
  readonly address: string | undefined;
}

/** The assignment of sockets to the addresses of a configuration. */
export interface Assignment<T> {
  /** The descriptors by address; addresses without one are omitted. A host name has one descriptor per IP address. */
  readonly descriptors: ReadonlyMap<T, readonly number[]>;
  /** A message for the operator per socket that matches none of the addresses. */
  readonly unclaimed: readonly string[];
}

/**
 * Listening sockets that systemd has bound and keeps open (socket activation, sd_listen_fds(3)): clients that connect between
 * the exit of one process and the start of the next wait in them. Each socket belongs to the listener with its address.
 */
export class InheritedSockets {
  readonly #sockets: readonly Inherited[];

  private constructor(sockets: readonly Inherited[]) {
    this.#sockets = sockets;
  }

  /** Reads and removes the variables, which are meant for this process but not for its children. */
  static takeFrom(env: NodeJS.ProcessEnv): InheritedSockets {
    const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = env;
    for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) Reflect.deleteProperty(env, name);
    const length = Number(pid) === process.pid ? Number(count) : 0;
    if (!Number.isInteger(length) || length <= 0) return new InheritedSockets([]);
    const bound = listeningSockets();
    return new InheritedSockets(
      Array.from({ length }, (_, index) => {
        const fd = FIRST_DESCRIPTOR + index;
        const inode = inodeOf(fd);
        const address = inode === undefined ? undefined : bound.get(inode);
        return { fd, name: names?.split(':')[index] ?? 'unknown', address };
      }),
    );
  }

  /** Finds the sockets of each address. Host names are resolved by this call. */
  async assign<T extends ListenAddress>(addresses: readonly T[]): Promise<Assignment<T>> {
    const descriptors = new Map<T, readonly number[]>();
    const left = new Set(this.#sockets);
    if (left.size === 0) return { descriptors, unclaimed: [] };
    for (const address of addresses) {
      const bound = await boundAs(address);
      const sockets = [...left].filter((one) => one.address !== undefined && bound.includes(one.address));
      if (sockets.length === 0) continue;
      for (const socket of sockets) left.delete(socket);
      const fds = sockets.map(({ fd }) => fd);
      descriptors.set(address, fds);
    }
    return { descriptors, unclaimed: [...left].map(unclaimedLine) };
  }
}

function unclaimedLine({ fd, name, address }: Inherited): string {
  const what = `descriptor ${fd} from systemd (${name})`;
  return address === undefined
    ? `${what} is not a listening stream socket: the socket unit must have ListenStream= and must not have Accept=yes`
    : `${what} listens on ${address}, but no listener has this address: remove it from the socket unit, or add a listener with it`;
}

/** The forms of an address once it is bound. */
async function boundAs(address: ListenAddress): Promise<readonly string[]> {
  if ('path' in address) return [address.url];
  const { host, port } = address;
  // A name that cannot be resolved is reported when it is bound.
  const hosts = host === '' ? ['::', '0.0.0.0'] : await addressesOf(host).catch(() => [host]);
  return hosts.map((one) => formatHostPort({ host: one, port }));
}

/** The inode of a descriptor that is a socket. */
function inodeOf(fd: number): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/u.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  } catch {
    return undefined;
  }
}

/** The addresses of all listening stream sockets of the network namespace, by inode. */
function listeningSockets(): ReadonlyMap<string, string> {
  const sockets = new Map<string, string>();
  for (const family of ['tcp', 'tcp6']) {
    for (const line of procNet(family)) {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/u);
      if (state === TCP_LISTEN) sockets.set(inode, hostPortOf(local));
    }
  }
  for (const line of procNet('unix')) {
    const match = /^\S+ \S+ \S+ (\S+ \S+) \S+ +(\d+) (.*)$/u.exec(line);
    if (match?.[1] === UNIX_LISTEN) sockets.set(match[2] ?? '', `unix:${match[3] ?? ''}`);
  }
  return sockets;
}

function procNet(family: string): string[] {
  try {
    return readFileSync(`/proc/self/net/${family}`, 'utf8').split('\n').slice(1);
  } catch {
    // A kernel without IPv6 does not have tcp6.
    return [];
  }
}

/** Decodes an address such as `0100007F:1F90` (127.0.0.1:8080), which consists of 32-bit words in the machine's byte order. */
function hostPortOf(local: string): string {
  const [address = '', port = ''] = local.split(':');
  const words = (address.match(/.{8}/gu) ?? []).map((word) => Number.parseInt(word, 16));
  const bytes = Buffer.from(Uint32Array.from(words).buffer);
  const isIPv4 = bytes.length === 4;
  const text = isIPv4 ? bytes.join('.') : (bytes.toString('hex').match(/.{4}/gu) ?? []).join(':');
  const host = isIPv4 ? text : new SocketAddress({ address: text, family: 'ipv6' }).address;
  return formatHostPort({ host, port: Number.parseInt(port, 16) });
}
