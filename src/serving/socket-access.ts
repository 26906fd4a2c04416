import { execFile } from 'node:child_process';

import type { Configuration, Problem, SocketSettings } from '../config/model.js';
import { readText } from '../files/read-file.js';
import { ACCOUNT_LOOKUP_MS } from '../limits.js';
import { DEFAULT_ACCESS, type Account, type SocketAccess } from './unix-socket.js';

type Database = 'passwd' | 'group';

/**
 * Returns the access to each listener's socket, in the order of the configuration, with users and groups resolved. An unknown
 * user or group is an error, added to `problems`.
 */
export async function loadSocketAccess(
  { listeners }: Configuration,
  problems: Problem[],
): Promise<SocketAccess[]> {
  return Promise.all(
    listeners.map(({ socket }) => (socket ? accessOf(socket, problems) : Promise.resolve(DEFAULT_ACCESS))),
  );
}

/** Returns the problems of `loadSocketAccess`, for `configuration validate`. */
export async function inspectSocketAccess(configuration: Configuration): Promise<Problem[]> {
  const problems: Problem[] = [];
  await loadSocketAccess(configuration, problems);
  return problems;
}

async function accessOf(
  { key, mode, owner, group }: SocketSettings,
  problems: Problem[],
): Promise<SocketAccess> {
  const find = async (
    setting: 'owner' | 'group',
    database: Database,
    name: string | undefined,
  ): Promise<Account | undefined> => {
    if (name === undefined) return undefined;
    const id = await findId(database, name);
    if (id !== undefined) return { id, name };
    const what = setting === 'owner' ? 'user' : 'group';
    const message = `unknown ${what} on this machine: create it, or use its numeric ID`;
    problems.push({ severity: 'error', key: [...key, setting], message, value: name });
    return undefined;
  };
  return {
    mode,
    owner: await find('owner', 'passwd', owner),
    group: await find('group', 'group', group),
  };
}

/**
 * Resolves a user or group to its numeric ID: a number as it is, a name by the local file, then by getent(1) for LDAP and
 * similar sources.
 */
async function findId(database: Database, name: string): Promise<number | undefined> {
  if (/^[0-9]+$/u.test(name)) return Number(name);
  const local = await readText(`/etc/${database}`).catch(() => '');
  return idOf(local, name) ?? idOf(await getent(database, name), name);
}

/** Finds a name in the format of passwd(5) and group(5), `name:password:number:…`. */
function idOf(lines: string, name: string): number | undefined {
  for (const line of lines.split('\n')) {
    const [found, , id] = line.split(':');
    if (found === name && id !== undefined && /^[0-9]+$/u.test(id)) return Number(id);
  }
  return undefined;
}

function getent(database: Database, name: string): Promise<string> {
  return new Promise((resolve) => {
    execFile('getent', [database, name], { timeout: ACCOUNT_LOOKUP_MS }, (_error, stdout) => resolve(stdout));
  });
}
