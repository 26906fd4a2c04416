import { readConfigToml } from './config-toml.js';
import { ImportFault, type FileKind, type Found } from './found.js';
import { readGitlabRb } from './gitlab-rb.js';
import { readGitlabYml } from './gitlab-yml.js';

const READERS: Readonly<Record<FileKind, (text: string) => Found>> = {
  'gitlab.rb': readGitlabRb,
  'gitlab.yml': readGitlabYml,
  'config.toml': readConfigToml,
};

/** What each kind has and no other; in this order. */
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

/** What a configuration of the proxy itself begins with. */
const OWN = /^listeners[ \t]*:/mu;

/** The names by which the files are known, for a file without a sign. */
const ENDINGS: readonly (readonly [FileKind, RegExp])[] = [
  ['gitlab.rb', /\.rb$/u],
  ['gitlab.yml', /\.ya?ml$/u],
  ['config.toml', /\.toml$/u],
];

/**
 * Reads a file of GitLab's, of whichever kind it is.
 *
 * @param name - how the file is called, which decides where its content does not.
 * @throws {ImportFault} for a file of no kind that is known, or that is not what its kind demands.
 */
export function readGitlabFile(text: string, name: string): Found {
  const kind = (SIGNS.find(([, sign]) => sign.test(text)) ??
    ENDINGS.find(([, ending]) => ending.test(name)))?.[0];
  if (OWN.test(text) && kind !== 'gitlab.rb')
    throw new ImportFault('this is a configuration of gitaly-tls-proxy already: give it to serve');
  if (kind === undefined) {
    throw new ImportFault(
      "this is none of the files that can be read: Gitaly's or Praefect's config.toml, gitlab.yml, or gitlab.rb",
    );
  }
  return READERS[kind](text);
}
