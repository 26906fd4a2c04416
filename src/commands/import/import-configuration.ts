import { planClients } from './client-plan.js';
import { ImportFault, type Found } from './found.js';
import { type ImportPlan, COMPONENTS, type ImportComponent } from './import-plan.js';
import { readGitlabFile } from './read-gitlab-file.js';
import { tlsPorts } from './server-addresses.js';
import { planServer } from './server-plan.js';
import type { Unread } from './setting.js';
import { writeConfiguration } from './write-import.js';

export interface ImportOptions {
  /** The name of the file, for messages. */
  readonly name: string;
  /** `undefined` for all components that the file configures. */
  readonly only: ImportComponent | undefined;
  /** The directory of the sockets for clients. */
  readonly socketDirectory: string;
}

export interface Imported {
  /** The configuration, with the steps of the migration as comments. */
  readonly text: string;
  readonly unread: readonly Unread[];
  /** Settings that were imported and need attention. */
  readonly warnings: readonly Unread[];
}

/**
 * Creates a configuration of the proxy from one of GitLab's.
 *
 * @throws {ImportFault} if the text yields none.
 */
export function importConfiguration(text: string, { name, only, socketDirectory }: ImportOptions): Imported {
  const found = readGitlabFile(text, name);
  const isWanted = (component: ImportComponent): boolean => only === undefined || only === component;
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

function nothing({ kind }: Found, unread: readonly Unread[], only: ImportComponent | undefined): string {
  const expected: Readonly<Record<Found['kind'], string>> = {
    'config.toml': 'listen_addr, tls_listen_addr or socket_path',
    'gitlab.yml': 'a storage with a gitaly_address of tls:// or tcp:// in repositories',
    'gitlab.rb':
      "addresses of gitaly['configuration'] or praefect['configuration'], or a storage with a gitaly_address of tls:// or tcp://",
  };
  const limited = only === undefined ? '' : ` for --only ${only}`;
  const left = unread.map(
    ({ key, line, reason }) => `; ${key}${line === undefined ? '' : ` (line ${line})`}: ${reason}`,
  );
  return `this ${kind} configures nothing that needs a proxy${limited}: it needs ${expected[kind]}${left.join('')}`;
}

/** Two servers in a file that several nodes share can have the same address, but one proxy cannot serve both. */
function refuseSharedAddresses(plans: readonly ImportPlan[]): void {
  const seen = new Set<string>();
  for (const { listen } of plans.flatMap(({ listeners }) => listeners)) {
    if (seen.has(listen))
      throw new ImportFault(
        `several servers in this file have the address ${listen}, on different nodes: select one with --only ${COMPONENTS.join('|')}`,
      );
    seen.add(listen);
  }
}

/** Sorts by line and removes duplicates. */
function inOrder(unread: readonly Unread[]): Unread[] {
  const once = new Map(unread.map((one) => [JSON.stringify([one.key, one.line, one.reason]), one]));
  return [...once.values()].sort((one, other) => (one.line ?? 0) - (other.line ?? 0));
}
