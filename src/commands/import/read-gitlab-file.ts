import { parse, TomlError } from 'smol-toml';

import { ImportFault, type FileKind, type Found, type ServerRole, type ServerSettings } from './found.js';
import { RENDERED, templateHint, templateStatement } from './template.js';
import { listens, serverSettings } from './server-settings.js';
import { SettingReader } from './setting-reader.js';
import { keyOf, settingAt, settingOf, type Unread, type SettingPath } from './setting.js';
import { nodesIn, storagesIn, legacyNodesIn } from './upstreams.js';
import { readYaml } from '../../config/yaml-file.js';
import { assignmentsIn } from './ruby/assignments.js';
import { statementsOf } from './ruby/statements.js';
import { RubyFault } from './ruby/ruby-token.js';
import { tokenize } from './ruby/tokenize.js';

const READERS: Readonly<Record<FileKind, (text: string) => Found>> = {
  'gitlab.rb': readGitlabRb,
  'gitlab.yml': readGitlabYml,
  'config.toml': readConfigToml,
};

/** Patterns that occur in only one kind of file, tried in this order. */
const SIGNS: readonly (readonly [FileKind, RegExp])[] = [
  [
    'gitlab.rb',
    /^[ \t]*(?:[a-z_]+\[['":][a-z_]+['"]?\][ \t]*(?:\[|=[^=]|\|\|=)|external_url[ \t(]|git_data_dirs\b|roles?[ \t(]+\[?['"])/mu,
  ],
  [
    'gitlab.yml',
    /^(?:["']?(?:production|development|defaults?|repositories|gitlab|gitaly)["']?[ \t]*:)(?:[ \t#&]|$)/mu,
  ],
  [
    'config.toml',
    /^[ \t]*(?:\[\[?(?:storage|virtual_storage|auth|tls|git|gitlab|logging|database|hooks)\b[\w. "'-]*\]|(?:listen_addr|tls_listen_addr|socket_path|bin_dir|runtime_dir|prometheus_listen_addr|tls\.\w+)[ \t]*=)/mu,
  ],
];

/** Files that contain or produce a file that can be imported, and the instruction for each. */
const OTHERS: readonly (readonly [string, RegExp])[] = [
  ['this is already a configuration of gitaly-tls-proxy: pass it to `serve --config`', /^listeners[ \t]*:/mu],
  [
    'this sets GITLAB_OMNIBUS_CONFIG, whose value is a gitlab.rb: save that value as a file and import it',
    /^[ \t]*(?:- )?["']?GITLAB_OMNIBUS_CONFIG\b/mu,
  ],
  [`this is a Kubernetes manifest: ${RENDERED}`, /^(?:apiVersion|kind)[ \t]*:/mu],
  [`these are values of the Helm chart: ${RENDERED}`, /^global[ \t]*:/mu],
];

/** The usual file names, for files whose content is ambiguous. */
const ENDINGS: readonly (readonly [FileKind, RegExp])[] = [
  ['gitlab.rb', /\.rb$/u],
  ['gitlab.yml', /\.ya?ml$/u],
  ['config.toml', /\.toml$/u],
];

/**
 * Reads one of GitLab's configuration files.
 *
 * @param name - the file's name, which decides if its content does not.
 * @throws {ImportFault} for an unknown or malformed file.
 */
export function readGitlabFile(text: string, name: string): Found {
  const content = text.replace(/^\u{feff}/u, '');
  const [kind, kindAt] = firstSign(SIGNS, content);
  const [other, otherAt] = firstSign(OTHERS, content);
  // The first match decides: a manifest may contain a whole gitlab.rb, and a gitlab.rb may contain YAML.
  if (other !== undefined && otherAt < kindAt) throw new ImportFault(other);
  const known = kind ?? ENDINGS.find(([, ending]) => ending.test(name))?.[0];
  if (known === undefined) {
    throw new ImportFault(
      templateHint(content) ??
        "unknown file: expected Gitaly's or Praefect's config.toml, a gitlab.yml or a gitlab.rb",
    );
  }
  return READERS[known](content);
}

/** The meaning of the first of these patterns that a text contains, and its position. */
function firstSign<T>(
  signs: readonly (readonly [T, RegExp])[],
  text: string,
): readonly [T | undefined, number] {
  for (const [meaning, sign] of signs) {
    const at = text.search(sign);
    if (at >= 0) return [meaning, at];
  }
  return [undefined, Infinity];
}

/**
 * Reads the `config.toml` of Gitaly or Praefect. Only Praefect's has `[[virtual_storage]]`.
 *
 * @throws {ImportFault} for invalid TOML.
 */
function readConfigToml(text: string): Found {
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

const STORAGES: SettingPath = ['repositories', 'storages'];

/**
 * Reads Rails' `gitlab.yml`: its `production` section, or the top level if it has none.
 *
 * @throws {ImportFault} for invalid YAML.
 */
function readGitlabYml(text: string): Found {
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

const ROOTS = ['gitaly', 'praefect', 'gitlab_rails'];
/** The setting of storages before GitLab 17. */
const GIT_DATA_DIRS = 'git_data_dirs';

/**
 * Reads the literal settings of Omnibus' `gitlab.rb`. Needed settings that Ruby computes, or sets under a condition, are
 * listed.
 *
 * @throws {ImportFault} for Ruby that cannot be followed.
 */
function readGitlabRb(text: string): Found {
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
      throw new ImportFault(`this Ruby cannot be analysed: ${error.message}`, error.line);
    throw error;
  }
}

/** `gitaly['configuration'].tls.key_path` */
function rubyKey([root = '', name, ...rest]: SettingPath): string {
  if (typeof name !== 'string' || !/^[\w-]+$/u.test(name))
    return keyOf(name === undefined ? [root] : [root, name, ...rest]);
  return keyOf(rest, `${root}['${name}']`);
}
