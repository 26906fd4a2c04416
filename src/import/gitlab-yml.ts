import { readYaml } from '../config/yaml-file.js';
import { ImportFault, type Found } from './found.js';
import { settingAt, settingOf, unreadIn, type Setting, type SettingPath, type Unread } from './setting.js';
import { storagesIn } from './upstreams.js';

const STORAGES: SettingPath = ['repositories', 'storages'];

/**
 * Reads Rails' `gitlab.yml`: its `production` section, or what is at the top where there is none.
 *
 * @throws {ImportFault} for what is no YAML.
 */
export function readGitlabYml(text: string): Found {
  const yaml = readYaml(text, { merge: true });
  if (yaml.content === undefined) {
    // What the parser says may quote the file, in which a token may stand.
    const [problem] = yaml.problems;
    const what =
      problem?.line === undefined ? 'an alias leads nowhere, or it is nested too deeply' : 'look there';
    throw new ImportFault(`not valid YAML: ${what}`, problem?.line);
  }
  const root = settingOf(yaml.content, yaml.locate);
  const section: SettingPath = settingAt(root, ['production']) === undefined ? [] : ['production'];
  const path = [...section, ...STORAGES];
  const storages: Setting | undefined = settingAt(root, path);
  const key = path.join('.');
  const unread: Unread[] = [
    ...yaml.problems.map(({ key: twice, line }) => ({
      key: twice.join('.'),
      line,
      reason: 'it is written twice, and the last one was taken',
    })),
    ...(storages === undefined ? [] : unreadIn(storages, key)),
  ];
  return {
    kind: 'gitlab.yml',
    servers: [],
    storages: storagesIn(storages, key, unread),
    nodes: [],
    unread,
  };
}
