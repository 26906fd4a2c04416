import { ImportFault, type Found, type ServerRole, type ServerSettings } from './found.js';
import { assignmentsIn } from './ruby/assignments.js';
import { statementsOf } from './ruby/statements.js';
import { RubyFault } from './ruby/ruby-token.js';
import { tokenize } from './ruby/tokenize.js';
import { listens, serverSettings } from './server-settings.js';
import { SettingReader } from './setting-reader.js';
import { keyOf, type SettingPath, type Unread } from './setting.js';
import { legacyNodesIn, nodesIn, storagesIn } from './upstreams.js';

const ROOTS = ['gitaly', 'praefect', 'gitlab_rails'];
/** Where storages were named before GitLab 17. */
const GIT_DATA_DIRS = 'git_data_dirs';

/**
 * Reads the literal settings of Omnibus' `gitlab.rb`. Needed settings that Ruby computes, or sets under a condition, are
 * listed.
 *
 * @throws {ImportFault} for Ruby that cannot be followed.
 */
export function readGitlabRb(text: string): Found {
  const { root, unread: includes } = assigned(text);
  const unread: Unread[] = [...includes];
  const reader = new SettingReader(root, rubyKey, unread);
  const server = (role: ServerRole): ServerSettings =>
    serverSettings(role, reader, { below: [role, 'configuration'], legacy: [role] });
  return {
    kind: 'gitlab.rb',
    servers: [server('gitaly'), server('praefect')].filter(listens),
    storages: [
      ...storagesIn(reader, ['gitlab_rails', 'repositories_storages']),
      ...storagesIn(reader, [GIT_DATA_DIRS]),
    ],
    nodes: [
      ...nodesIn(reader, ['praefect', 'configuration']),
      ...legacyNodesIn(reader, ['praefect', 'virtual_storages']),
    ],
    unread,
  };
}

function assigned(text: string): ReturnType<typeof assignmentsIn> {
  try {
    return assignmentsIn(statementsOf(tokenize(text)), ROOTS, [GIT_DATA_DIRS]);
  } catch (error) {
    if (error instanceof RubyFault)
      throw new ImportFault(`this cannot be followed as Ruby: ${error.message}`, error.line);
    throw error;
  }
}

/** `gitaly['configuration'].tls.key_path` */
function rubyKey([root = '', name, ...rest]: SettingPath): string {
  if (typeof name !== 'string' || !/^[\w-]+$/u.test(name))
    return keyOf(name === undefined ? [root] : [root, name, ...rest]);
  return keyOf(rest, `${root}['${name}']`);
}
