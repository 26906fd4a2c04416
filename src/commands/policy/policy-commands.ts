import { IDENTITY_KINDS, readIdentityPattern } from '../../policy/identity-pattern.js';
import { readRpcPattern } from '../../policy/rpc-pattern.js';
import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';
import { ALLOW_FORMS } from './suggest.js';
import { FROM_FLAG, readFrom } from './traffic-source.js';

export const POLICY_SUGGEST: CommandEntry = {
  name: 'policy suggest',
  summary: 'print the minimal rules that allow the calls a running proxy has seen',
  description: [
    'Reads from the admin port which clients have called which RPCs, and prints the rules of a policy that allow these calls ' +
      'and no others. Clients with the same RPCs share a rule, which names one identity of each; clients without a certificate ' +
      'have the last rule, which is for every client.',
    'RPCs whose calls were all denied by the policy, or refused by Gitaly, get no rule. An RPC that the table of RPCs does not ' +
      'have is printed as a comment, because the configuration may name it only if rpcs_path has it. The rules can only be ' +
      'as complete as the traffic: let the proxy run for as long as your rarest job takes to come round. Exits with 1 if ' +
      'there is nothing to suggest or the admin port cannot be read.',
  ],
  usage: ['--from URL [--allow FORM] [--denied] [--json]'],
  flags: [
    FROM_FLAG,
    {
      name: 'allow',
      value: { label: 'FORM', completes: ALLOW_FORMS },
      text: 'write each RPC (rpcs, the default), whole services (services), or operations such as accessor (operations)',
    },
    { name: 'denied', text: 'also allow RPCs whose calls were all denied by the policy' },
    { name: 'json', text: 'print {"since":...,"listeners":[{"listen":...,"rules":[...]}],"notes":[...]}' },
  ],
  examples: [
    {
      text: 'the rules for the traffic of this proxy',
      line: 'gitaly-tls-proxy policy suggest --from http://127.0.0.1:9237',
    },
    {
      text: 'rules that also allow the other accessors of a client that called one',
      line: 'gitaly-tls-proxy policy suggest --from http://127.0.0.1:9237 --allow operations',
    },
  ],
  read: (given) => {
    const form = given.value('allow') ?? 'rpcs';
    const known = ALLOW_FORMS.find((one) => one === form);
    if (!known) throw new UsageError(`--allow ${form}: expected ${ALLOW_FORMS.join(', ')}`);
    const from = readFrom('policy suggest', given.value('from'));
    return {
      command: 'policy suggest',
      request: { from, form: known, includesDenied: given.has('denied'), json: given.has('json') },
    };
  },
};

export const POLICY_TEST: CommandEntry = {
  name: 'policy test',
  summary: 'show whether a policy allows a call, and by which rule',
  description: [
    'Decides on a call of a client with these identities, as the proxy would with this configuration, and prints the rule that ' +
      'decided and the message that the client would get. client_auth and client_allow are applied first. Limits such as ' +
      'max_calls do not count: it is the first call.',
    'Exits with 0 if the call is allowed, with 1 if it is denied (also in mode report), and with 2 if the file or the command ' +
      'line is invalid.',
  ],
  usage: ['FILE --rpc SERVICE/METHOD [--identity IDENTITY]... [--listener URL] [--json]'],
  words: { label: 'FILE', most: 1, completes: 'file' },
  flags: [
    {
      name: 'identity',
      value: { label: 'IDENTITY', completes: IDENTITY_KINDS.map((kind) => `${kind}:`) },
      repeatable: true,
      text: 'a name in the certificate, for example dns:rails-1.gitlab.internal (default: a client without a certificate)',
    },
    {
      name: 'rpc',
      value: { label: 'SERVICE/METHOD', completes: 'nothing' },
      text: 'the RPC, for example gitaly.RefService/FindBranch',
    },
    {
      name: 'listener',
      value: { label: 'URL', completes: 'nothing' },
      text: 'the listener, as in the file (default: the only one that has a policy)',
    },
    { name: 'json', text: 'print the decision as JSON' },
  ],
  examples: [
    {
      text: 'may this client delete a repository?',
      line: 'gitaly-tls-proxy policy test gitaly-tls-proxy.yaml --identity dns:rails-1.gitlab.internal --rpc gitaly.RepositoryService/RemoveRepository',
    },
  ],
  read: (given) => {
    const [file] = given.words;
    const rpc = given.value('rpc')?.replace(/^\//u, '');
    const example =
      'policy test gitaly-tls-proxy.yaml --identity dns:rails-1.internal --rpc gitaly.RefService/FindBranch';
    if (file === undefined) throw new UsageError(`policy test needs a FILE: ${example}`);
    if (rpc === undefined) throw new UsageError(`policy test needs --rpc: ${example}`);
    const pattern = readRpcPattern(rpc);
    if (typeof pattern === 'string' || pattern.kind !== 'rpc')
      throw new UsageError(`--rpc ${rpc}: expected one RPC, for example gitaly.RefService/FindBranch`);
    const identities = given.values('identity');
    for (const identity of identities) {
      const fault = identity === '*' ? 'expected one identity, not a pattern' : readIdentityPattern(identity);
      if (typeof fault === 'string') throw new UsageError(`--identity ${identity}: ${fault}`);
    }
    const listener = given.value('listener');
    return {
      command: 'policy test',
      request: { file, identities, rpc, listener, json: given.has('json') },
    };
  },
};
