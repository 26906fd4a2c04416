import { readConfiguration } from '../../config/load.js';
import type { Configuration, Problem } from '../../config/model.js';
import { formatProblem } from '../../config/problem.js';
import type { ObservedAuthority, TrafficReport } from '../../policy/observed-traffic.js';
import { printable, printableJson } from '../../printable.js';
import { describeAuthority } from '../../tls/client-authorities.js';
import { loadTrust } from '../../x509/trust.js';
import { EXIT_FAILED, EXIT_USAGE, type CommandIo } from '../command-io.js';
import { fetchTraffic, gaps, TrafficUnavailable } from '../policy/fetch-traffic.js';
import { rehearse, type Rehearsal, type RehearsalFinding } from './rehearse.js';

export interface RehearseRequest {
  readonly file: string;
  readonly from: URL;
  readonly json: boolean;
}

/** `configuration rehearse`: reports the observed traffic that a new configuration would refuse. */
export async function runRehearse(
  { file, from, json }: RehearseRequest,
  { env, writeStdout, writeStderr }: Pick<CommandIo, 'env' | 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  const loaded = await readConfiguration({ kind: 'file', file }, env);
  const problems = loaded.problems.filter(({ severity }) => severity === 'error');
  const { configuration } = loaded;
  const authorities = configuration ? await loadAuthorities(configuration, problems) : undefined;
  for (const problem of problems) writeStderr(`${formatProblem(problem, loaded)}\n`);
  if (!configuration || !authorities) return EXIT_USAGE;
  let traffic: TrafficReport;
  try {
    traffic = await fetchTraffic(from);
  } catch (error) {
    if (!(error instanceof TrafficUnavailable)) throw error;
    writeStderr(`gitaly-tls-proxy: ${error.message}\n`);
    return EXIT_USAGE;
  }
  const rehearsal = rehearse(traffic, { configuration, authorities });
  const { since, evicted, total } = traffic;
  const notes = gaps(traffic);
  if (json) writeStdout(`${printableJson({ since, evicted, total, notes, ...rehearsal }, 2)}\n`);
  else writeStdout(describe(rehearsal, traffic, notes));
  return rehearsal.refused.length > 0 ? EXIT_FAILED : 0;
}

/** The CAs of clients of each listener; `undefined` if a file cannot be read. */
async function loadAuthorities(
  { listeners }: Configuration,
  problems: Problem[],
): Promise<ReadonlyMap<string, readonly ObservedAuthority[]> | undefined> {
  const authorities = new Map<string, readonly ObservedAuthority[]>();
  for (const { listen, tls } of listeners) {
    if (!tls?.clientCa) continue;
    const found: Problem[] = [];
    const anchors = await loadTrust(tls.clientCa, found);
    problems.push(...found.filter(({ severity }) => severity === 'error'));
    if (!anchors) return undefined;
    authorities.set(
      listen.url,
      anchors.map(({ x509 }) => describeAuthority(x509)),
    );
  }
  return authorities;
}

function describe(
  { refused, reported }: Rehearsal,
  { since, total, clients }: TrafficReport,
  notes: readonly string[],
): string {
  const calls = clients.flatMap(({ rpcs }) => rpcs).reduce((sum, one) => sum + one.calls, 0);
  const lines = [
    `Observed since ${since}: ${total} groups of clients, ${calls} calls.`,
    ...notes,
    ...refused.flatMap((finding) => describeFinding('refused', finding)),
    ...reported.flatMap((finding) => describeFinding('reported only', finding)),
    refused.length > 0
      ? `The new configuration would refuse traffic: ${refused.length} findings.`
      : 'The new configuration would refuse none of the observed traffic.',
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

function describeFinding(effect: string, finding: RehearsalFinding): string[] {
  const { reason, listener, identities, rpc, calls, connections, last_seen: seen, message, fix } = finding;
  const client = identities.length > 0 ? identities.join(', ') : 'clients without an identity';
  const what = rpc === null ? `${connections} connections, ${calls} calls` : `${rpc}, ${calls} calls`;
  return [
    '',
    `${effect}: ${reason} of ${listener}: ${client}: ${what}, the last at ${seen}`,
    `  ${message}`,
    `  fix: ${fix}`,
  ];
}
