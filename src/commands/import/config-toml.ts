import { parse, TomlError } from 'smol-toml';

import { ImportFault, type Found } from './found.js';
import { listens, serverSettings } from './server-settings.js';
import { SettingReader } from './setting-reader.js';
import { keyOf, settingAt, settingOf, type Unread } from './setting.js';
import { templateHint } from './template.js';
import { nodesIn } from './upstreams.js';

/**
 * Reads the `config.toml` of Gitaly or Praefect. Only Praefect's has `[[virtual_storage]]`.
 *
 * @throws {ImportFault} for invalid TOML.
 */
export function readConfigToml(text: string): Found {
  const root = settingOf(parsed(text));
  const unread: Unread[] = [];
  const role = settingAt(root, ['virtual_storage']) === undefined ? 'gitaly' : 'praefect';
  const reader = new SettingReader(root, keyOf, unread);
  return {
    kind: 'config.toml',
    servers: [serverSettings(role, reader, { below: [], legacy: undefined })].filter(listens),
    storages: [],
    nodes: nodesIn(reader, []),
    unread,
  };
}

function parsed(text: string): unknown {
  try {
    // Go's integers have 64 bits: cgroups.memory_bytes = 9223372036854775807.
    return parse(text, { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    // The parser's message shows lines of the file, which may contain a token.
    if (error instanceof TomlError)
      throw new ImportFault(
        `not valid TOML: ${templateHint(text) ?? `the error is at column ${error.column}`}`,
        error.line,
      );
    throw error;
  }
}
