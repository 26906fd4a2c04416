import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';
import { FROM_FLAG, readFrom } from '../policy/traffic-source.js';

export const CONFIGURATION_REHEARSE: CommandEntry = {
  name: 'configuration rehearse',
  summary: 'report which traffic of a running proxy a new configuration would refuse',
  description: [
    'Reads from the admin port which clients have connected and what they have called, and reports what the configuration in ' +
      'FILE would refuse of it: clients below min_version, clients of a CA that client_ca_path no longer has, clients without ' +
      'a certificate, server names that forward_by_server_name no longer has, clients that client_allow does not name, and calls ' +
      'that the policy denies. Listeners are compared by their address.',
    'Traffic that only mode or client_auth report would count is listed as well, and does not change the exit code. Revocation ' +
      'lists and limits are not rehearsed. Exits with 0 if nothing would be refused, with 1 if something would, and with 2 ' +
      'if the file or the command line is invalid or the admin port cannot be read.',
  ],
  usage: ['FILE --from URL [--json]'],
  words: { label: 'FILE', most: 1, completes: 'file' },
  flags: [
    FROM_FLAG,
    {
      name: 'json',
      text: 'print {"since":...,"evicted":{...},"total":N,"notes":[...],"refused":[...],"reported":[...]}',
    },
  ],
  examples: [
    {
      text: 'before a reload',
      line: 'gitaly-tls-proxy configuration rehearse gitaly-tls-proxy.yaml --from http://127.0.0.1:9237',
    },
  ],
  read: (given) => {
    const [file] = given.words;
    if (file === undefined)
      throw new UsageError(
        'configuration rehearse needs a FILE: configuration rehearse new.yaml --from http://127.0.0.1:9237',
      );
    const from = readFrom('configuration rehearse', given.value('from'));
    return { command: 'configuration rehearse', request: { file, from, json: given.has('json') } };
  },
};
