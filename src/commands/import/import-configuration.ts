import { planClients } from './client-plan.js';
import { ImportFault, type Found } from './found.js';
import { type ImportPlan, SIDES, type ImportSide } from './import-plan.js';
import { readGitlabFile } from './read-gitlab-file.js';
import { tlsPorts } from './server-addresses.js';
import { planServer } from './server-plan.js';
import type { Unread } from './setting.js';
import { writeConfiguration } from './write-import.js';

export interface ImportOptions {
  /** How the file is called. */
  readonly name: string;
  /** `undefined`: all that the file speaks of. */
  readonly only: ImportSide | undefined;
  /** Where sockets for clients are put. */
  readonly socketDirectory: string;
}

export interface Imported {
  /** The configuration, with comments that say what to do. */
  readonly text: string;
  readonly unread: readonly Unread[];
  /** Settings that were imported and need attention. */
  readonly warnings: readonly Unread[];
}

/**
 * Makes a configuration of the proxy from one of GitLab's.
 *
 * @throws {ImportFault} where the text gives none.
 */
export function importConfiguration(text: string, { name, only, socketDirectory }: ImportOptions): Imported {
  const found = readGitlabFile(text, name);
  const isWanted = (side: ImportSide): boolean => only === undefined || only === side;
  const clients = { socketDirectory, tlsPorts: tlsPorts(found.servers) };
  const plans = [
    ...found.servers.filter(({ role }) => isWanted(role)).map(planServer),
    ...(isWanted('praefect') ? [planClients('praefect', found.nodes, clients)] : []),
    ...(isWanted('clients') ? [planClients('rails', found.storages, clients)] : []),
  ].filter((plan) => plan !== undefined);
  const unread = inOrder([...found.unread, ...plans.flatMap((plan) => plan.unread)]);
  const useful = plans.filter(({ listeners }) => listeners.length > 0);
  if (useful.length === 0) throw new ImportFault(nothing(found, unread, only));
  refuseSharedAddresses(useful);
  const warnings = inOrder(useful.flatMap((plan) => plan.warnings));
  const written = writeConfiguration(useful, { unread, warnings }, { name, kind: found.kind });
  return { text: written, unread, warnings };
}

function nothing({ kind }: Found, unread: readonly Unread[], only: ImportSide | undefined): string {
  const looked: Readonly<Record<Found['kind'], string>> = {
    'config.toml': 'listen_addr, tls_listen_addr or socket_path',
    'gitlab.yml': 'a storage with a gitaly_address of tls:// or tcp:// in repositories',
    'gitlab.rb':
      "addresses of gitaly['configuration'] or praefect['configuration'], or a storage with a gitaly_address of tls:// or tcp://",
  };
  const limited = only === undefined ? '' : ` for --only ${only}`;
  const left = unread.map(
    ({ key, line, reason }) => `; ${key}${line === undefined ? '' : ` (line ${line})`}: ${reason}`,
  );
  return `this ${kind} has nothing to put a proxy in front of${limited}: it needs ${looked[kind]}${left.join('')}`;
}

/** Two servers in a file that several nodes share may have the same address, and one proxy cannot. */
function refuseSharedAddresses(plans: readonly ImportPlan[]): void {
  const seen = new Set<string>();
  for (const { listen } of plans.flatMap(({ listeners }) => listeners)) {
    if (seen.has(listen))
      throw new ImportFault(
        `several servers of this file have ${listen}, on different nodes: choose one with --only ${SIDES.join(', ')}`,
      );
    seen.add(listen);
  }
}

/** By line, each thing once. */
function inOrder(unread: readonly Unread[]): Unread[] {
  const once = new Map(unread.map((one) => [JSON.stringify([one.key, one.line, one.reason]), one]));
  return [...once.values()].sort((one, other) => (one.line ?? 0) - (other.line ?? 0));
}
