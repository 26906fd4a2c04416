import { once } from 'node:events';
import { symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { onTestFinished } from 'vitest';

import { temporaryDirectory } from './temporary-directory.js';

const SYSTEMD_NOTIFY = fileURLToPath(new URL('systemd-notify.mjs', import.meta.url));

/** One message of the program, by name: `READY`, `STATUS`. */
export interface Told {
  readonly assignments: Readonly<Record<string, string>>;
  /** The process that sent it. */
  readonly sender: number;
}

/** Receives the notifications of a program, as systemd does; `test/interop` does the same with the real systemd-notify. */
export class ServiceManager {
  /** All messages so far, in their order. */
  readonly told: Told[] = [];
  /** The environment for the program. */
  readonly env: Readonly<Record<string, string>>;
  readonly #waiting = new Set<() => void>();

  private constructor(env: Readonly<Record<string, string>>) {
    this.env = env;
  }

  static async start(): Promise<ServiceManager> {
    const directory = await temporaryDirectory();
    const socket = join(directory, 'notify');
    await symlink(SYSTEMD_NOTIFY, join(directory, 'systemd-notify'));
    const path = [directory, dirname(process.execPath), process.env['PATH']].join(delimiter);
    const manager = new ServiceManager({ NOTIFY_SOCKET: socket, PATH: path });
    const server = createServer({ allowHalfOpen: true }, (connection) => {
      void json(connection).then((message) => {
        manager.#take(message as { assignments: string[]; sender: number });
        connection.end();
      });
    });
    server.listen({ path: socket });
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    return manager;
  }

  /** Waits for the first message, from the `from`-th on, with this content. */
  async waitFor(assignment: string, from = 0): Promise<Told> {
    const [name = '', value] = assignment.split('=');
    for (;;) {
      const found = this.told.slice(from).find(({ assignments }) => assignments[name] === value);
      if (found) return found;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #take({ assignments, sender }: { assignments: string[]; sender: number }): void {
    const pairs = assignments.map((assignment) => /^([A-Z_]+)=(.*)$/u.exec(assignment) ?? []);
    this.told.push({
      assignments: Object.fromEntries(pairs.map(([, name = '', value = '']) => [name, value])),
      sender,
    });
    for (const look of this.#waiting) look();
    this.#waiting.clear();
  }
}
