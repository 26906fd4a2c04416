import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

/** proc(5): the state TCP_LISTEN. */
const LISTEN = '0A';

/** Documentation/networking/proc_net_tcp.txt of Linux: the timer with which a sender probes a closed window. */
const ZERO_WINDOW_PROBE = '04';

const POLL_MS = 20;

/** The TCP ports that a process listens on. */
export function listeningPorts(pid: number): number[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap(
      (fd) => /^socket:\[(\d+)\]$/u.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1] ?? [],
    ),
  );
  return ['tcp', 'tcp6'].flatMap((family) =>
    readFileSync(`/proc/${pid}/net/${family}`, 'utf8')
      .split('\n')
      .slice(1)
      .flatMap((line) => {
        const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/u);
        return state === LISTEN && inodes.has(inode) ? [Number.parseInt(local.split(':')[1] ?? '', 16)] : [];
      }),
  );
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** The arguments of a process, its program first. */
export function argumentsOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
}

/** Whether a process handles a signal. */
export function handles(pid: number, signal: NodeJS.Signals): boolean {
  const caught = /^SigCgt:\s+([0-9a-f]+)$/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${caught}`) & (1n << BigInt(constants.signals[signal] - 1))) !== 0n;
}

/**
 * Waits until the peer of a socket that is not read can send no more: all buffers between them are full, and the kernel of the
 * peer waits for the window to open.
 */
export async function windowCloses({ localPort, remotePort }: Socket): Promise<void> {
  const [own, peer] = [localPort, remotePort].map((port = 0) =>
    port.toString(16).toUpperCase().padStart(4, '0'),
  );
  const isClosed = new RegExp(`:${peer} \\w+:${own} \\w+ \\w+:\\w+ ${ZERO_WINDOW_PROBE}:`, 'u');
  while (!isClosed.test(readFileSync('/proc/net/tcp', 'utf8'))) await delay(POLL_MS);
}
