import { parseAddress } from '../../config/address.js';
import { readConfiguration } from '../../config/load.js';
import type { Configuration, ListenerConfiguration } from '../../config/model.js';
import { formatProblem } from '../../config/problem.js';
import { STATUS_CODES } from '../../inspect/grpc/grpc-status.js';
import { identityCheck } from '../../policy/identity-pattern.js';
import { NO_RULE, Policy, splitPath } from '../../policy/policy.js';
import { RpcTable } from '../../policy/rpc-table.js';
import { printable, printableJson } from '../../printable.js';
import { EXIT_FAILED, EXIT_USAGE, type CommandIo } from '../command-io.js';

export interface PolicyTestRequest {
  readonly file: string;
  /** In the order of the certificate; empty for a client without a certificate. */
  readonly identities: readonly string[];
  /** `service/Method`. */
  readonly rpc: string;
  readonly listener: string | undefined;
  readonly json: boolean;
}

/** The answer of `policy test`. The names are those of its JSON. */
export interface PolicyTestResult {
  readonly listener: string;
  readonly allowed: boolean;
  /** `undefined`: the connection is refused before any call, or no call is judged. */
  readonly rule: string | undefined;
  readonly mode: 'enforce' | 'report' | undefined;
  readonly operation: string | undefined;
  /** The name of the gRPC status that the client gets; `undefined` if the call is allowed. */
  readonly code: string | undefined;
  /** The message for the client, or the reason why the call is allowed. */
  readonly message: string;
}

/** `policy test`: decides on a call as the proxy would. */
export async function runPolicyTest(
  request: PolicyTestRequest,
  { env, writeStdout, writeStderr }: Pick<CommandIo, 'env' | 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  const loaded = await readConfiguration({ kind: 'file', file: request.file }, env);
  for (const problem of loaded.problems)
    if (!loaded.configuration || problem.severity === 'error')
      writeStderr(`${formatProblem(problem, loaded)}\n`);
  if (!loaded.configuration) return EXIT_USAGE;
  const listener = chooseListener(loaded.configuration, request.listener);
  if (typeof listener === 'string') {
    writeStderr(`gitaly-tls-proxy: ${listener}\n`);
    return EXIT_USAGE;
  }
  const result = decideCall(listener, new RpcTable(loaded.configuration.rpcs), request);
  writeStdout(request.json ? `${printableJson(result, 2)}\n` : describe(result));
  return result.allowed ? 0 : EXIT_FAILED;
}

/** Returns the listener, or why none is chosen. */
function chooseListener(
  { listeners }: Configuration,
  given: string | undefined,
): ListenerConfiguration | string {
  const known = listeners.map(({ listen }) => listen.url).join(', ');
  if (given !== undefined) {
    const address = parseAddress(given, 'listen');
    const url = address.ok ? address.value.url : given;
    return (
      listeners.find(({ listen }) => listen.url === url) ??
      `--listener ${given}: the file has no such listener; its listeners are ${known}`
    );
  }
  const withRules = listeners.filter(({ policy, clientAllow }) => policy ?? clientAllow);
  const [only, ...more] = withRules.length > 0 ? withRules : listeners;
  return only && more.length === 0 ? only : `name one of the listeners with --listener: ${known}`;
}

/** Decides on the connection of the client, and then on its call. */
export function decideCall(
  { listen, tls, clientAllow, policy }: ListenerConfiguration,
  rpcs: RpcTable,
  { identities, rpc }: Pick<PolicyTestRequest, 'identities' | 'rpc'>,
): PolicyTestResult {
  const { service, method } = splitPath(rpc);
  const clientAuth = tls?.clientAuth ?? 'none';
  const of = { listener: listen.url, mode: policy?.mode, rule: undefined, operation: undefined };
  if (clientAuth === 'require' && identities.length === 0) {
    const message = 'the client sent no certificate and client_auth is require';
    return { ...of, allowed: false, code: 'Unauthenticated', message };
  }
  if (clientAuth !== 'report' && !identityCheck(clientAllow)(identities)) {
    const message = 'client_allow names none of the identities of the client';
    return { ...of, allowed: false, code: 'PermissionDenied', message };
  }
  if (!policy)
    return {
      ...of,
      allowed: true,
      code: undefined,
      message: 'the listener has no policy: it forwards every call',
    };
  // Without client certificates, no client has an identity.
  const known = clientAuth === 'none' ? [] : identities;
  const { allowed, rule, operation, isKnown, refusal } = new Policy(policy, rpcs).decide(
    known,
    service,
    method,
    performance.now(),
  );
  return {
    ...of,
    allowed,
    rule: rule === NO_RULE ? undefined : rule,
    operation: isKnown ? operation : 'unknown',
    code: refusal && (STATUS_CODES[refusal.code] ?? 'Unknown'),
    message: refusal?.message ?? `rule "${rule}" allows it`,
  };
}

function describe({ listener, allowed, rule, mode, operation, code, message }: PolicyTestResult): string {
  const verdict = allowed ? 'allowed' : `denied with ${code ?? 'Unknown'}`;
  const effect = !allowed && mode === 'report' && operation !== undefined;
  return [
    `${verdict}, by ${rule === undefined ? 'no rule' : `rule "${rule}"`} of ${listener}`,
    ...(operation === undefined ? [] : [`operation: ${operation}`]),
    `${allowed ? 'reason' : 'message'}: ${message}`,
    ...(effect ? ['The policy is in mode report: the call is forwarded, counted and logged.'] : []),
    '',
  ]
    .map(printable)
    .join('\n');
}
