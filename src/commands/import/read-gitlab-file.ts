import { readConfigToml } from './config-toml.js';
import { ImportFault, type FileKind, type Found } from './found.js';
import { readGitlabRb } from './gitlab-rb.js';
import { readGitlabYml } from './gitlab-yml.js';
import { RENDERED, templateHint } from './template.js';

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
