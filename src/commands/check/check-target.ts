import type { HandshakeObservation } from '../../gitaly-client/observe-handshake.js';
import { CertificateSteps } from './certificate-steps.js';
import { checkConnection, connectTo } from './connect-step.js';
import { literalEndpoint, resolveEndpoints, type Endpoint } from './endpoints.js';
import { callHealthOf, checkHealthOver, checkServerInfo, type HealthOutcome } from './grpc-steps.js';
import { skipped, Steps, type CheckFinding, type CheckStep, type StepName } from './check-step.js';
import type { CheckSettings, CheckTarget, TargetTls } from './named-target.js';
import { checkAlpn, checkClientCertificate, checkTls, observe, refusedCertificate } from './tls-steps.js';

/** The results of one target. */
export interface TargetReport {
  readonly role: CheckTarget['role'];
  readonly title: string;
  /** The name resolution; empty if none is needed. */
  readonly steps: readonly CheckStep[];
  /** All addresses of its name, each checked separately. */
  readonly endpoints: readonly { readonly title: string; readonly steps: readonly CheckStep[] }[];
  readonly passed: boolean;
}

/** Checks all addresses of a target, concurrently. */
export async function checkTarget(target: CheckTarget, settings: CheckSettings): Promise<TargetReport> {
  const { address, role, title } = target;
  const steps = new Steps();
  let endpoints: readonly Endpoint[] = [];
  const literal = literalEndpoint(address);
  const { skipReason } = target;
  if (skipReason !== undefined) await steps.run('connect', [], () => skipped(skipReason));
  else if (literal) endpoints = [literal];
  else if (address.scheme !== 'unix')
    await steps.run('resolve', [], async () => {
      const resolved = await resolveEndpoints(address);
      ({ endpoints } = resolved);
      return resolved.finding;
    });
  const reports = await Promise.all(
    endpoints.map(async (endpoint) => ({
      title: endpoint.title,
      steps: await checkEndpoint(endpoint, target, settings),
    })),
  );
  const failedEndpoint = reports.some((report) => report.steps.some(({ result }) => result === 'failed'));
  return { role, title, steps: steps.done, endpoints: reports, passed: steps.passed && !failedEndpoint };
}

async function checkEndpoint(
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<readonly CheckStep[]> {
  const steps = new Steps();
  await steps.run('connect', [], () => checkConnection(endpoint, target, settings));
  if (target.tls) await checkTlsOf(target.tls, steps, endpoint, target, settings);
  if (target.protocol === 'http') return steps.done;
  const connected: StepName[] = ['connect', 'tls', 'client_certificate'];
  // If one of these fails, a client of Gitaly sends nothing more, and the token must not be sent either.
  const verified: StepName[] = [...connected, 'alpn', 'chain', 'san', 'expiry'];
  const maySendToken = verified.every((name) => steps.isSatisfied(name));
  let overHttp2: HealthOutcome | undefined;
  await steps.run('health_http2', connected, async () => {
    overHttp2 = await checkHealthOver('http2', endpoint, target, settings, { maySendToken, overHttp2 });
    return overHttp2.finding;
  });
  await steps.run('health_backchannel', connected, async () => {
    const context = { maySendToken, overHttp2 };
    return (await checkHealthOver('backchannel', endpoint, target, settings, context)).finding;
  });
  // This step finds out why a token is refused.
  const needs: StepName[] = overHttp2?.answer === 'token_refused' ? verified : [...verified, 'health_http2'];
  await steps.run('server_info', needs, () => checkServerInfo(endpoint, target, settings));
  return steps.done;
}

async function checkTlsOf(
  tls: TargetTls,
  steps: Steps,
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<void> {
  let seen: HandshakeObservation | undefined;
  await steps.run('tls', ['connect'], async () => {
    seen = await observe(await connectTo(endpoint, target, settings), target, tls, settings);
    return checkTls(seen, tls);
  });
  const ofHandshake = (work: (observation: HandshakeObservation) => CheckFinding): (() => CheckFinding) => {
    return () => (seen ? work(seen) : skipped('because the handshake did not take place'));
  };
  /** A server that aborts the handshake because of a client certificate has already sent its own. */
  const ofCertificates = (work: (certificates: CertificateSteps) => CheckFinding): (() => CheckFinding) =>
    ofHandshake((observation) =>
      observation.certificates.length === 0
        ? skipped('because the server sent no certificate')
        : work(new CertificateSteps(observation, tls, settings)),
    );
  await steps.run(
    'alpn',
    ['connect', 'tls'],
    ofHandshake((observation) => checkAlpn(observation, target)),
  );
  await steps.run(
    'chain',
    ['connect'],
    ofCertificates((certificates) => certificates.chain()),
  );
  await steps.run(
    'san',
    ['connect'],
    ofCertificates((certificates) => certificates.names()),
  );
  await steps.run(
    'expiry',
    ['connect'],
    ofCertificates((certificates) => certificates.expiry()),
  );
  await steps.run('client_certificate', ['connect'], async () => {
    const finding = ofHandshake((observation) => checkClientCertificate(observation, tls))();
    const isAnswered = finding.result === 'passed' && seen?.sequel.kind === 'answered';
    return (isAnswered ? await refusalInCalls(tls, endpoint, target, settings) : undefined) ?? finding;
  });
}

/** A server can also refuse a client certificate in its answer to a call, where it explains the reason. */
async function refusalInCalls(
  tls: TargetTls,
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<CheckFinding | undefined> {
  try {
    const health = await callHealthOf('http2', endpoint, target, settings, false);
    return health.kind === 'refuses_certificate' ? refusedCertificate(tls, ` (${health.words})`) : undefined;
  } catch {
    // The health steps report the missing answer.
    return undefined;
  }
}
