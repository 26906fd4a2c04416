import { CallFailure } from '../../gitaly-client/grpc-client.js';
import { UpstreamFailure } from '../../upstream/failure.js';

/** The steps, in this order. The names are those of `--json`. */
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

/** The result of a step. */
export interface CheckFinding {
  readonly result: 'passed' | 'failed' | 'skipped';
  /** One line: the facts, the cause of a failure, or the reason why the step was skipped. */
  readonly detail: string;
  /** One line: what to do about a failure. If the step has passed, a warning. */
  readonly fix?: string;
  /** Further lines, such as the certificates of a chain. */
  readonly lines?: readonly string[];
  /** The facts, for programs. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** A step with its result. */
export interface CheckStep extends CheckFinding {
  readonly name: StepName;
}

export function passed(detail: string, more: Partial<CheckFinding> = {}): CheckFinding {
  return { result: 'passed', detail, ...more };
}

export function failed(detail: string, fix: string, more: Partial<CheckFinding> = {}): CheckFinding {
  return { result: 'failed', detail, fix, ...more };
}

export function skipped(detail: string): CheckFinding {
  return { result: 'skipped', detail };
}

/** The steps of one address, in their order. */
export class Steps {
  readonly done: CheckStep[] = [];

  /** Whether a step has passed, or does not apply to this address. */
  isSatisfied(name: StepName): boolean {
    return this.done.every((step) => step.name !== name || step.result === 'passed');
  }

  /** Runs a step, unless one of the steps that it needs has not passed. If `work` throws, the step has failed. */
  async run(
    name: StepName,
    needs: readonly StepName[],
    work: () => CheckFinding | Promise<CheckFinding>,
  ): Promise<void> {
    const missing = needs.find((needed) => !this.isSatisfied(needed));
    this.done.push({ name, ...(missing ? skipped(becauseOf(missing)) : await outcome(work)) });
  }

  /** Whether no step has failed. */
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
    // The server accepted a connection in an earlier step.
    if (error instanceof UpstreamFailure || error instanceof CallFailure)
      return failed(error.message, 'the server answered the previous steps: try again, and see its log');
    return failed(
      error instanceof Error ? error.message : String(error),
      'this is unexpected: please report it',
    );
  }
}
