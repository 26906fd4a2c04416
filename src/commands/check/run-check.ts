import { loadAnchors, systemAnchors } from './anchors.js';
import { checkTarget, type TargetReport } from './check-target.js';
import type { CheckTarget } from './named-target.js';
import type { ListenerClient } from './through.js';
import { isTlsScheme } from '../../config/address.js';
import type { LoadResult } from '../../config/load.js';
import type { Problem } from '../../config/model.js';
import { formatProblem } from '../../config/problem.js';
import { loadPair } from '../../x509/certificate-pair.js';
import { dateProblem } from '../../x509/dated.js';
import { loadToken } from '../../gitaly-client/token-file.js';
import type { CheckOptions } from '../command.js';
import { EXIT_FAILED, EXIT_USAGE, type CommandIo } from '../command-io.js';
import { printable, printableJson } from '../../printable.js';
import { STEP_TITLES, type CheckStep } from './check-step.js';

/**
 * `check ADDRESS…`: connects to each address as a client of Gitaly does, and reports each step.
 *
 * @returns the exit code: 0; 1 if a step has failed; 2 if the command line names an unusable file.
 */
export async function check(
  options: CheckOptions,
  io: Pick<CommandIo, 'env' | 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  const problems: Problem[] = [];
  // The system has more than a hundred authorities, which are not needed for plaintext.
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
  return reports.every(({ passed }) => passed) ? 0 : EXIT_FAILED;
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
  const common = { role: 'address', title: written, address, preamble: undefined, protocol: 'grpc' } as const;
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
  io: Pick<CommandIo, 'env' | 'writeStdout' | 'writeStderr'>,
): number {
  for (const problem of problems)
    if (problem.severity === 'error') io.writeStderr(`gitaly-tls-proxy: ${formatProblem(problem, source)}\n`);
  return EXIT_USAGE;
}

function hasErrors(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error');
}

const RESULTS = { passed: 'Passed', failed: 'Failed', skipped: 'Skipped' } as const;

/** The report for people: each step in the format of Praefect's checks, with its details below. */
function reportText(reports: readonly TargetReport[]): string {
  return `${reports.map(targetText).join('\n\n')}\n`;
}

/** The report for a program. */
function reportJson(reports: readonly TargetReport[]): string {
  const passed = reports.every((report) => report.passed);
  const targets = reports.map(({ title, role, passed: targetPassed, steps, endpoints }) => ({
    address: title,
    role,
    passed: targetPassed,
    steps: steps.map(stepJson),
    endpoints: endpoints.map((endpoint) => ({
      address: endpoint.title,
      passed: endpoint.steps.every(({ result }) => result !== 'failed'),
      steps: endpoint.steps.map(stepJson),
    })),
  }));
  return `${printableJson({ passed, targets }, 2)}\n`;
}

function targetText({ title, role, steps, endpoints }: TargetReport): string {
  const heading = printable(role === 'address' ? title : `${role} ${title}`);
  const hasSeveral = endpoints.length > 1;
  return [
    heading,
    ...steps.flatMap(stepText),
    ...endpoints.flatMap((endpoint) => [
      ...(hasSeveral ? ['', `${heading} at ${printable(endpoint.title)}`] : []),
      ...endpoint.steps.flatMap(stepText),
    ]),
  ].join('\n');
}

function stepText({ name, result, detail, fix, lines }: CheckStep): string[] {
  const advice = fix === undefined ? '' : result === 'passed' ? `. Warning: ${fix}` : `. Fix: ${fix}`;
  return [
    `Checking ${STEP_TITLES[name]} ... ${RESULTS[result]}`,
    `  ${printable(`${detail}${advice}`)}`,
    ...(lines ?? []).map((line) => `  ${printable(line)}`),
  ];
}

function stepJson({ name, result, detail, fix, facts }: CheckStep): object {
  return {
    name,
    result,
    detail,
    ...(fix !== undefined && (result === 'passed' ? { warning: fix } : { cure: fix })),
    ...facts,
  };
}
