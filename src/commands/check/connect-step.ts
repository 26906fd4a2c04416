import type { Socket } from 'node:net';

import { createDialer } from '../../upstream/dialer.js';
import { UpstreamFailure, type UpstreamFailureReason } from '../../upstream/failure.js';
import type { Endpoint } from './endpoints.js';
import { failed, passed, type CheckFinding } from './check-step.js';
import type { CheckSettings, CheckTarget } from './named-target.js';

/** A plain connection to an endpoint, at the point where TLS or gRPC begins. Rejects with an `UpstreamFailure`. */
export function connectTo(
  { address }: Endpoint,
  { hello }: Pick<CheckTarget, 'hello'>,
  { timeoutMs }: Pick<CheckSettings, 'timeoutMs'>,
): Promise<Socket> {
  return createDialer(address, undefined, timeoutMs).connect(hello);
}

/** Whether somebody listens. */
export async function checkConnection(
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<CheckFinding> {
  const startedAtMs = performance.now();
  try {
    (await connectTo(endpoint, target, settings)).destroy();
    const ms = Math.ceil(performance.now() - startedAtMs);
    return passed(`${endpoint.title} within ${ms} ms`, { facts: { connect_ms: ms } });
  } catch (error) {
    if (!(error instanceof UpstreamFailure)) throw error;
    const { reason, message } = error;
    const cause = reason === 'timeout' ? `no connection within ${settings.timeoutMs} ms` : message;
    return failed(cause, CURES[reason] ?? 'look at the network between this machine and that one', {
      facts: { reason },
    });
  }
}

const CURES: Partial<Readonly<Record<UpstreamFailureReason, string>>> = {
  refused: 'nobody listens there: does Gitaly (or what stands in front of it) run, and with this address?',
  timeout: 'a firewall that drops what it does not know, or a wrong address',
  unreachable: 'there is no way to it from this machine: look at its routes and at the address',
  no_socket: 'there is no such socket: does Gitaly run, and is this its socket_path?',
  permission: 'this user may not use the socket: run check as the user that runs GitLab (git), or as root',
  reset: 'whatever stands there ends connections at once: a firewall, or a balancer without a backend',
};
