import type { ListenerConfiguration, Logging, Problem } from '../config/model.js';
import type { Rpc } from '../policy/rpc-table.js';
import type { ServerParts, UpstreamParts } from '../tls/material.js';

/** The settings and parts that the connections of one listener are served with. */
export interface ServedListener {
  /** Identifies the listener within this process. A listener that is removed and bound again gets a new id. */
  readonly listenerId: number;
  readonly configuration: ListenerConfiguration;
  /** Set if and only if the listener is `tls://` or `https://`. */
  readonly server: ServerParts | undefined;
  /** Set if and only if an upstream is `tls://` or `https://`. */
  readonly upstream: UpstreamParts | undefined;
  /** Gitaly's token, for calls that have none. */
  readonly upstreamToken: string | undefined;
  /** Changes if and only if the TLS settings, certificates, keys, CAs or CRLs change. */
  readonly fingerprint: string;
}

/** All settings for serving traffic, as plain values that can be sent to another process. */
export interface ServingPlan {
  readonly listeners: readonly ServedListener[];
  readonly logging: Logging;
  /** `undefined`: calls are not audited. */
  readonly audit: { readonly isRequired: boolean } | undefined;
  /** The RPCs of `rpcs_path`. */
  readonly rpcs: readonly Rpc[];
}

/** A worker failed before it reported whether it can serve a plan. */
export class TrafficFailure extends Error {}

/** A plan that cannot be applied. */
export class PlanRefused extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems.map(({ message }) => message).join('; '));
    this.problems = problems;
  }
}
