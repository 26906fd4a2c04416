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

/** What only one kind of file holds, tried in this order. */
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

/** Files that hold or produce one that can be read, and what to import instead. */
const OTHERS: readonly (readonly [string, RegExp])[] = [
  ['this is already a configuration of gitaly-tls-proxy: pass it to `serve --config`', /^listeners[ \t]*:/mu],
  [
    'this sets GITLAB_OMNIBUS_CONFIG, whose value is a gitlab.rb: save that value as a file and import it',
    /^[ \t]*(?:- )?["']?GITLAB_OMNIBUS_CONFIG\b/mu,
  ],
  [`this is a Kubernetes manifest: ${RENDERED}`, /^(?:apiVersion|kind)[ \t]*:/mu],
  [`these are values of the Helm chart: ${RENDERED}`, /^global[ \t]*:/mu],
];

/** The usual names of the files, for one whose content does not tell. */
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
  // The first sign decides: a manifest may hold a whole gitlab.rb, and a gitlab.rb may hold YAML.
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

/** What the first of these signs that a text has stands for, and where it is. */
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
