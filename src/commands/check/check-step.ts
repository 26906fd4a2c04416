import { CallFailure } from '../../gitaly-client/grpc-client.js';
import { UpstreamFailure } from '../../upstream/failure.js';

/** What is looked at, in this order. The names are those of `--json`. */
export const STEP_TITLES = {
  resolve: 'name resolution',
  connect: 'connection',
  tls: 'TLS version and cipher',
  alpn: 'ALPN',
  chain: 'certificate chain',
  san: 'certificate names (SAN)',
  expiry: 'certificate expiry',
  client_certificate: 'client certificate',
  health_http2: 'gRPC health over HTTP/2',
  health_backchannel: 'gRPC health over the backchannel',
  server_info: 'Gitaly version and storages',
} as const;

export type StepName = keyof typeof STEP_TITLES;

/** What came of a step. */
export interface CheckFinding {
  readonly result: 'passed' | 'failed' | 'skipped';
  /** What was found: the cause of a failure, the reason for having skipped it; one line. */
  readonly detail: string;
  /** What to do about it; one line. With `passed` it is a warning. */
  readonly cure?: string;
  /** Further lines: the certificates of a chain. */
  readonly lines?: readonly string[];
  /** The same for programs. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** A step that is over. */
export interface CheckStep extends CheckFinding {
  readonly name: StepName;
}

export function passed(detail: string, more: Partial<CheckFinding> = {}): CheckFinding {
  return { result: 'passed', detail, ...more };
}

export function failed(detail: string, cure: string, more: Partial<CheckFinding> = {}): CheckFinding {
  return { result: 'failed', detail, cure, ...more };
}

export function skipped(detail: string): CheckFinding {
  return { result: 'skipped', detail };
}

/** The steps of one address, in their order. */
export class Steps {
  readonly done: CheckStep[] = [];

  /** Whether a step has passed, or was not asked for. */
  stands(name: StepName): boolean {
    return this.done.every((step) => step.name !== name || step.result === 'passed');
  }

  /** Runs a step, unless one that it needs has not passed. What `work` throws is a failure, too. */
  async run(
    name: StepName,
    needs: readonly StepName[],
    work: () => CheckFinding | Promise<CheckFinding>,
  ): Promise<void> {
    const missing = needs.find((needed) => !this.stands(needed));
    this.done.push({ name, ...(missing ? skipped(becauseOf(missing)) : await outcome(work)) });
  }

  /** Whether none has failed. */
  get passed(): boolean {
    return this.done.every(({ result }) => result !== 'failed');
  }
}

function becauseOf(name: StepName): string {
  return `because ${STEP_TITLES[name]} did not pass`;
}

async function outcome(work: () => CheckFinding | Promise<CheckFinding>): Promise<CheckFinding> {
  try {
    return await work();
  } catch (error) {
    // It took a connection a moment ago, and answered the steps before.
    if (error instanceof UpstreamFailure || error instanceof CallFailure)
      return failed(error.message, 'it has answered before: try again, and look at the log of the server');
    return failed(
      error instanceof Error ? error.message : String(error),
      'please report it: this is unexpected',
    );
  }
}
