import { parse, TomlError } from 'smol-toml';

import { ImportFault, type Found } from './found.js';
import { listens, serverSettings, SettingReader } from './server-settings.js';
import { keyBelow, settingAt, settingOf, unreadIn, type Unread } from './setting.js';
import { nodesIn } from './upstreams.js';

/**
 * Reads Gitaly's `config.toml`, or Praefect's, which is told by its `[[virtual_storage]]`.
 *
 * @throws {ImportFault} for what is no TOML.
 */
export function readConfigToml(text: string): Found {
  const root = settingOf(parsed(text));
  const unread: Unread[] = unreadIn(root, '');
  const role = settingAt(root, ['virtual_storage']) === undefined ? 'gitaly' : 'praefect';
  const reader = new SettingReader(root, (path) => path.reduce(keyBelow, ''), unread);
  return {
    kind: 'config.toml',
    servers: [serverSettings(role, reader, { below: [], legacy: false })].filter(listens),
    storages: [],
    nodes: nodesIn(root, '', unread),
    unread,
  };
}

function parsed(text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    // Its message shows lines of the file, in which a token may stand.
    if (error instanceof TomlError)
      throw new ImportFault(`not valid TOML: look at column ${error.column} there`, error.line);
    throw error;
  }
}
