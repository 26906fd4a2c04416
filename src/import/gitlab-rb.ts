import { ImportFault, type Found, type ServerRole, type ServerSettings } from './found.js';
import { assignmentsIn } from './ruby/assignments.js';
import { statementsOf } from './ruby/statements.js';
import { RubyFault } from './ruby/token.js';
import { tokenize } from './ruby/tokenize.js';
import { listens, serverSettings, SettingReader } from './server-settings.js';
import { keyBelow, settingAt, unreadIn, type Setting, type SettingPath, type Unread } from './setting.js';
import { legacyNodesIn, nodesIn, storagesIn } from './upstreams.js';

const ROOTS = ['gitaly', 'praefect', 'gitlab_rails'];
/** Where storages were named before GitLab 17. */
const GIT_DATA_DIRS = 'git_data_dirs';

const EMPTY: Setting = { kind: 'map', entries: new Map() };

/**
 * Reads the literal settings of Omnibus' `gitlab.rb`. What Ruby computes, or sets under a condition, is listed.
 *
 * @throws {ImportFault} for what cannot be followed as Ruby.
 */
export function readGitlabRb(text: string): Found {
  const { root, unread: includes } = assigned(text);
  const unread: Unread[] = [...includes];
  const read = <T>(path: SettingPath, reader: (setting: Setting, key: string) => T): T => {
    const setting = settingAt(root, path) ?? EMPTY;
    const key = rubyKey(path);
    unread.push(...unreadIn(setting, key));
    return reader(setting, key);
  };
  const server = (role: ServerRole): ServerSettings[] =>
    read([role], (setting) => {
      const keyOf = ([name = '', ...rest]: SettingPath): string =>
        rest.reduce(keyBelow, rubyKey([role, name]));
      const reader = new SettingReader(setting, keyOf, unread);
      const settings = serverSettings(role, reader, { below: ['configuration'], legacy: true });
      return listens(settings) ? [settings] : [];
    });
  const servers = [...server('gitaly'), ...server('praefect')];
  const praefect = settingAt(root, ['praefect']) ?? EMPTY;
  const configuration = settingAt(praefect, ['configuration']) ?? EMPTY;
  const virtualStorages = settingAt(praefect, ['virtual_storages']);
  return {
    kind: 'gitlab.rb',
    servers,
    storages: [['gitlab_rails', 'repositories_storages'], [GIT_DATA_DIRS]].flatMap((path) =>
      read(path, (setting, key) => storagesIn(setting, key, unread)),
    ),
    nodes: [
      ...nodesIn(configuration, rubyKey(['praefect', 'configuration']), unread),
      ...legacyNodesIn(virtualStorages, rubyKey(['praefect', 'virtual_storages']), unread),
    ],
    unread: unread.map((one) => ({ ...one, key: one.key.replace(/^(\w+)\.([\w-]+)/u, "$1['$2']") })),
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

/** `gitaly['configuration']`. */
function rubyKey([root = '', ...rest]: SettingPath): string {
  return `${root}${rest.map((name) => `['${name}']`).join('')}`;
}
