import type { CommandEntry } from '../command.js';
import { UsageError } from '../parse-flags.js';

export const RPCS: CommandEntry = {
  name: 'rpcs',
  summary: 'write a table of RPCs for rpcs_path from the proto files of Gitaly',
  description: [
    'Prints a table of RPCs: their names, stream types, operations (accessor, mutator, maintenance), and the fields of their ' +
      'requests that contain the repository. The policy and the metrics of the proxy use it with rpcs_path: its rows are ' +
      'added to the built-in table, which covers Gitaly up to 16.11, or replace them.',
    'DESCRIPTOR_SET is what protoc --descriptor_set_out --include_imports writes from the proto files of Gitaly. They are ' +
      'in the folder proto of its source.',
  ],
  usage: ['--from DESCRIPTOR_SET'],
  flags: [
    {
      name: 'from',
      value: { label: 'DESCRIPTOR_SET', completes: 'file' },
      text: 'the descriptor set of the proto files of Gitaly',
    },
  ],
  examples: [
    {
      text: 'after protoc --include_imports --descriptor_set_out=gitaly.pb -I proto proto/*.proto',
      line: 'gitaly-tls-proxy rpcs --from gitaly.pb > gitaly-rpcs.tsv',
    },
  ],
  read: (given) => {
    const from = given.value('from');
    if (from === undefined) throw new UsageError('rpcs needs a descriptor set: rpcs --from gitaly.pb');
    return { command: 'rpcs', from };
  },
};
