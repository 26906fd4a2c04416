import { loadAnchors, systemAnchors } from './anchors.js';
import { checkTarget } from './check-target.js';
import { reportJson, reportText } from './check-report.js';
import type { CheckTarget } from './named-target.js';
import type { ListenerClient } from './through.js';
import { isTlsScheme } from '../../config/address.js';
import type { Environment } from '../../config/build-context.js';
import type { LoadResult } from '../../config/load.js';
import type { Problem } from '../../config/model.js';
import { formatProblem } from '../../config/problem.js';
import { loadPair } from '../../x509/certificate-pair.js';
import { dateProblem } from '../../x509/dated.js';
import { loadToken } from '../../gitaly-client/token-file.js';
import type { CheckOptions } from '../command.js';

/** What the command has to do with the world. */
export interface CheckIo {
  readonly env: Environment;
  readonly writeStdout: (text: string) => void;
  readonly writeStderr: (text: string) => void;
}

/**
 * `check ADDRESS…`: is a client of Gitaly at each address and tells step by step how far it comes.
 *
 * @returns the exit code: 0, 1 if a step has failed, 2 if a file of the command line cannot be used.
 */
export async function check(options: CheckOptions, io: CheckIo): Promise<number> {
  const problems: Problem[] = [];
  // A hundred authorities of the system's need not be read for a plaintext port.
  const anchors = needsTrust(options) ? await loadAnchors(options.ca, io.env, problems) : systemAnchors([]);
  const pair = options.clientPair && (await loadClientPair(options.clientPair, problems));
  const token =
    options.tokenFile === undefined
      ? undefined
      : await loadToken({ path: options.tokenFile, key: ['--token-file'] }, problems);
  if (!anchors || hasErrors(problems)) return refuse(problems, NO_FILE, io);
  for (const problem of problems) io.writeStderr(`gitaly-tls-proxy: ${formatProblem(problem, NO_FILE)}\n`);

  const client: ListenerClient = { anchors, pair, serverName: options.serverName };
  const targets = options.addresses.map((address) => targetOf(address, client));
  if (options.through !== undefined) {
    // Loading this takes longer than the check of an address.
    const { targetsThrough } = await import('./through.js');
    const found = await targetsThrough(options.through, client, io.env);
    if (!found.targets) return refuse(found.problems, found.source, io);
    targets.push(...found.targets);
  }
  const settings = { timeoutMs: options.timeoutMs, token, nowMs: () => Date.now() };
  const reports = await Promise.all(targets.map((target) => checkTarget(target, settings)));
  io.writeStdout(options.json ? reportJson(reports) : reportText(reports));
  return reports.every(({ passed }) => passed) ? 0 : 1;
}

const NO_FILE = { file: undefined, locate: () => undefined };

function needsTrust({ addresses, ca, through }: CheckOptions): boolean {
  return (
    ca !== undefined || through !== undefined || addresses.some(({ address }) => isTlsScheme(address.scheme))
  );
}

function targetOf(
  { written, address }: CheckOptions['addresses'][number],
  { anchors, pair, serverName }: ListenerClient,
): CheckTarget {
  const common = { role: 'address', title: written, address, hello: undefined, speaks: 'grpc' } as const;
  if (address.scheme === 'unix' || !isTlsScheme(address.scheme)) return { ...common, tls: undefined };
  // The root dot of a fully qualified name is for the resolver; certificates and SNI have none.
  const host = address.host.replace(/\.$/u, '');
  return {
    ...common,
    tls: { serverName: serverName ?? host, anchors, pair, pairFrom: 'flags', minVersion: 'TLSv1.2' },
  };
}

async function loadClientPair(
  { cert, key }: NonNullable<CheckOptions['clientPair']>,
  problems: Problem[],
): ReturnType<typeof loadPair> {
  const setting = {
    certificate: { path: cert, key: ['--client-cert'] },
    key: { path: key, key: ['--client-key'] },
  };
  const now = new Date();
  const pair = await loadPair(setting, 'client', now, problems);
  const outOfDate = pair && dateProblem(pair.dated, now);
  // A check with such a certificate would report only that.
  if (outOfDate) problems.push({ ...outOfDate, severity: 'error' });
  return pair;
}

function refuse(
  problems: readonly Problem[],
  source: Pick<LoadResult, 'file' | 'locate'>,
  io: CheckIo,
): number {
  for (const problem of problems)
    if (problem.severity === 'error') io.writeStderr(`gitaly-tls-proxy: ${formatProblem(problem, source)}\n`);
  return 2;
}

function hasErrors(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error');
}
