import type { Socket } from 'node:net';

import { createDialer } from '../../upstream/dialer.js';
import { UpstreamFailure, type UpstreamFailureReason } from '../../upstream/failure.js';
import type { Endpoint } from './endpoints.js';
import { failed, passed, type CheckFinding } from './check-step.js';
import type { CheckSettings, CheckTarget } from './named-target.js';

/** Connects to an endpoint, up to the point where TLS or gRPC begins. Rejects with an `UpstreamFailure`. */
export function connectTo(
  { address }: Endpoint,
  { preamble }: Pick<CheckTarget, 'preamble'>,
  { timeoutMs }: Pick<CheckSettings, 'timeoutMs'>,
): Promise<Socket> {
  return createDialer(address, undefined, timeoutMs).connect(preamble);
}

/** Checks that the endpoint accepts connections. */
export async function checkConnection(
  endpoint: Endpoint,
  target: CheckTarget,
  settings: CheckSettings,
): Promise<CheckFinding> {
  const startedAtMs = performance.now();
  try {
    (await connectTo(endpoint, target, settings)).destroy();
    const ms = Math.ceil(performance.now() - startedAtMs);
    return passed(`connected to ${endpoint.title} within ${ms} ms`, { facts: { connect_ms: ms } });
  } catch (error) {
    if (!(error instanceof UpstreamFailure)) throw error;
    const { reason, message } = error;
    const cause = reason === 'timeout' ? `no connection within ${settings.timeoutMs} ms` : message;
    return failed(cause, FIXES[reason] ?? 'check the network between this machine and the server', {
      facts: { reason },
    });
  }
}

const FIXES: Partial<Readonly<Record<UpstreamFailureReason, string>>> = {
  refused: 'nothing listens there: check that Gitaly, or the proxy in front of it, runs and has this address',
  timeout: 'a firewall may be dropping packets, or the address is wrong',
  unreachable: 'this machine has no route to the server: check its routes and the address',
  no_socket: 'the socket does not exist: check that Gitaly runs and that this is its socket_path',
  permission: 'this user may not use the socket: run check as the user that runs GitLab (git), or as root',
  reset: 'the server resets connections at once: a firewall, or a load balancer without a backend',
};
