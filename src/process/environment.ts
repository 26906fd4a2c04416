import { UV_THREADS_MIN } from '../limits.js';
import { harmfulNodeOptions } from './node-options.js';

/** An environment variable that would change how the program works. */
export interface EnvironmentFinding {
  readonly variable: string;
  /** `refuse`: a proxy does not start with it. `warn`: it starts, and logs a warning. */
  readonly severity: 'refuse' | 'warn';
  /** Full sentences: the effect of the variable and the fix. */
  readonly error: string;
  readonly fix: string;
}

interface Rule {
  readonly variable: string;
  readonly severity: EnvironmentFinding['severity'];
  /** Whether it is removed from the environment of this process and its children. */
  readonly isRemoved?: true;
  /** `undefined` if this value is harmless. */
  readonly judge: (value: string) => { readonly error: string; readonly fix: string } | undefined;
}

const always = (error: string, fix: string) => () => ({ error, fix });

/** SSL_CERT_FILE and SSL_CERT_DIR are settings of the program (docs/configuration.md), and therefore not listed. */
const RULES: readonly Rule[] = [
  {
    variable: 'NODE_OPTIONS',
    severity: 'refuse',
    judge: (value) => {
      const options = [...new Set(harmfulNodeOptions(value))];
      if (options.length === 0) return undefined;
      return {
        error: `NODE_OPTIONS contains ${options.join(' ')}, which changes how the program works or who can inspect it.`,
        fix: 'Unset NODE_OPTIONS; if an option is needed, set it on the command line: node OPTION dist/cli.js serve.',
      };
    },
  },
  {
    variable: 'NODE_TLS_REJECT_UNAUTHORIZED',
    severity: 'warn',
    isRemoved: true,
    judge: (value) =>
      value === '0'
        ? {
            error: 'NODE_TLS_REJECT_UNAUTHORIZED=0 is ignored: certificates are verified.',
            fix: 'Unset it; name the authority of an upstream with upstream_tls.ca_path.',
          }
        : undefined,
  },
  {
    variable: 'NODE_EXTRA_CA_CERTS',
    severity: 'warn',
    isRemoved: true,
    judge: always(
      'NODE_EXTRA_CA_CERTS is ignored: it adds no authority.',
      'Unset it; use upstream_tls.ca_path, or SSL_CERT_FILE.',
    ),
  },
  {
    variable: 'NODE_USE_SYSTEM_CA',
    severity: 'warn',
    isRemoved: true,
    judge: always(
      'NODE_USE_SYSTEM_CA is ignored: it adds no authority.',
      'Unset it; the trust store of the system is used if no authority is configured.',
    ),
  },
  {
    variable: 'NODE_USE_ENV_PROXY',
    severity: 'warn',
    isRemoved: true,
    judge: always('NODE_USE_ENV_PROXY is ignored: upstreams are always dialled directly.', 'Unset it.'),
  },
  {
    variable: 'SSLKEYLOGFILE',
    severity: 'warn',
    isRemoved: true,
    judge: always(
      'SSLKEYLOGFILE is ignored: the secrets of TLS connections are not written to a file.',
      'Unset it.',
    ),
  },
  {
    variable: 'NODE_DEBUG',
    severity: 'warn',
    judge: always(
      'NODE_DEBUG makes Node print the internals of connections, including headers, to stderr.',
      'Unset it.',
    ),
  },
  {
    variable: 'NODE_DEBUG_NATIVE',
    severity: 'warn',
    judge: always('NODE_DEBUG_NATIVE makes Node print the internals of connections to stderr.', 'Unset it.'),
  },
  {
    variable: 'NODE_V8_COVERAGE',
    severity: 'warn',
    judge: always('NODE_V8_COVERAGE makes Node slower and makes it write files when it exits.', 'Unset it.'),
  },
  {
    variable: 'NODE_COMPILE_CACHE',
    severity: 'warn',
    judge: always(
      'NODE_COMPILE_CACHE makes Node run compiled code from a directory: the owner of the directory controls the program.',
      'Unset it.',
    ),
  },
  {
    variable: 'NODE_PATH',
    severity: 'warn',
    judge: always(
      'NODE_PATH makes Node load code from further directories: their owners may control the program.',
      'Unset it.',
    ),
  },
  {
    variable: 'NODE_REDIRECT_WARNINGS',
    severity: 'warn',
    judge: always('NODE_REDIRECT_WARNINGS makes Node write its warnings to a file.', 'Unset it.'),
  },
  ...['OPENSSL_CONF', 'OPENSSL_MODULES', 'OPENSSL_ENGINES'].map((variable): Rule => ({
    variable,
    severity: 'warn',
    judge: always(
      `${variable} changes the algorithms of the TLS library and the code that it loads.`,
      'Unset it, unless this is intended.',
    ),
  })),
  {
    variable: 'UV_THREADPOOL_SIZE',
    severity: 'warn',
    judge: (value) =>
      Number(value) >= UV_THREADS_MIN
        ? undefined
        : {
            error: `UV_THREADPOOL_SIZE=${value} leaves too few threads: a hung file system would also block DNS.`,
            fix: `Unset it, or set it to ${UV_THREADS_MIN} or more.`,
          },
  },
];

/**
 * Checks the variables that change Node, its libraries or OpenSSL, and removes those that must have no effect. Node reads some
 * of them before the program runs: these are reported, and a proxy refuses to start with the worst.
 */
export function takeEnvironment(env: NodeJS.ProcessEnv): EnvironmentFinding[] {
  return RULES.flatMap(({ variable, severity, isRemoved, judge }): EnvironmentFinding[] => {
    const value = env[variable];
    if (value === undefined || value === '') return [];
    if (isRemoved === true) Reflect.deleteProperty(env, variable);
    const judged = judge(value);
    return judged ? [{ variable, severity, ...judged }] : [];
  });
}
