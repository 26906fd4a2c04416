import type { ListenerConfiguration, Logging, Problem } from '../config/model.js';
import type { ServerParts, UpstreamParts } from '../tls/material.js';

/** The settings and parts that the connections of one listener are served with. */
export interface ServedListener {
  /** Identifies the listener within this process. A listener that is removed and bound again gets a new one. */
  readonly listenerId: number;
  readonly configuration: ListenerConfiguration;
  /** There if and only if the listener is `tls://` or `https://`. */
  readonly server: ServerParts | undefined;
  /** There if and only if an upstream is `tls://` or `https://`. */
  readonly upstream: UpstreamParts | undefined;
  /** While it stays, so does what TLS is made of. */
  readonly fingerprint: string;
}

/** Everything that traffic is served with: plain values, so that it can be sent to another process. */
export interface ServingPlan {
  readonly listeners: readonly ServedListener[];
  readonly logging: Logging;
}

/** Who was to serve a plan did not come to the point of saying whether it can. */
export class TrafficFailure extends Error {}

/** A plan that cannot be put in force. */
export class PlanRefused extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(({ message }) => message).join('; '));
    this.problems = problems;
  }
}
