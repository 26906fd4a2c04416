import { readYaml } from '../../config/yaml-file.js';
import { ImportFault, type Found } from './found.js';
import { SettingReader } from './setting-reader.js';
import { keyOf, settingAt, settingOf, type SettingPath, type Unread } from './setting.js';
import { templateHint, templateStatement } from './template.js';
import { storagesIn } from './upstreams.js';

const STORAGES: SettingPath = ['repositories', 'storages'];

/**
 * Reads Rails' `gitlab.yml`: its `production` section, or the top level if it has none.
 *
 * @throws {ImportFault} for invalid YAML.
 */
export function readGitlabYml(text: string): Found {
  const statement = templateStatement(text);
  // A statement of a template may add or remove settings, even if the file happens to be valid YAML.
  if (statement !== undefined) throw new ImportFault(statement.hint, statement.line);
  const yaml = readYaml(text, { merge: true });
  if (yaml.content === undefined) {
    // The parser's message may quote the file, which may contain a token.
    const [problem] = yaml.problems;
    const what =
      templateHint(text) ??
      (problem?.line === undefined
        ? 'an alias has no anchor, or the nesting is too deep'
        : 'the error is on this line');
    throw new ImportFault(`not valid YAML: ${what}`, problem?.line);
  }
  const root = settingOf(yaml.content, yaml.locate);
  const section: SettingPath = settingAt(root, ['production']) === undefined ? [] : ['production'];
  const path = [...section, ...STORAGES];
  const unread: Unread[] = yaml.problems
    .filter(({ key }) => key.every((name, depth) => path[depth] === undefined || path[depth] === name))
    .map(({ key, line }) => ({
      key: keyOf(key),
      line,
      reason: 'it is set twice, and the last value was taken',
    }));
  const reader = new SettingReader(root, keyOf, unread);
  return {
    kind: 'gitlab.yml',
    servers: [],
    storages: storagesIn(reader, path),
    nodes: [],
    unread,
  };
}
