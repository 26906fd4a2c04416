import { delimiter, resolve } from 'node:path';
import { fileSetting, reportError, type BuildContext, type Written } from './build-context.js';
import type { FileSetting, TrustSource } from './model.js';

/**
 * The authorities of a setting, or else those of the environment, which Node itself does not use (`SSL_CERT_FILE`: a file;
 * `SSL_CERT_DIR`: directories, separated as in PATH).
 *
 * @returns `undefined` if none are configured, or if they cannot be found, which is then reported.
 */
export function resolveTrust(
  context: BuildContext,
  written: Written<string> | undefined,
): TrustSource | undefined {
  return written === undefined
    ? trustFromEnvironment(context)
    : trustFromPath(context, fileSetting(context, written), written.value);
}

function trustFromPath(context: BuildContext, file: FileSetting, value: string): TrustSource | undefined {
  const kind = context.kindOf(file.path);
  if (kind === 'file') return { files: [file], directories: [] };
  if (kind === 'directory') return { files: [], directories: [file] };
  reportError(
    context,
    file.key,
    kind.reason === 'no such file'
      ? `no such file: ${file.path}`
      : `cannot read ${file.path}: ${kind.reason}`,
    value,
  );
  return undefined;
}

function trustFromEnvironment(context: BuildContext): TrustSource | undefined {
  const fileName = context.env['SSL_CERT_FILE'] ?? '';
  const directoryNames = (context.env['SSL_CERT_DIR'] ?? '').split(delimiter).filter((name) => name !== '');
  const files: FileSetting[] = [];
  if (fileName !== '') {
    // Paths in the environment are relative to the working directory, as in every other program.
    const file = { path: resolve(fileName), key: ['SSL_CERT_FILE'] };
    const kind = context.kindOf(file.path);
    if (kind === 'file') files.push(file);
    else {
      const reason = kind === 'directory' ? 'it is a directory: use SSL_CERT_DIR' : kind.reason;
      reportError(context, file.key, `cannot read ${file.path}: ${reason}`, fileName);
    }
  }
  const directories = directoryNames
    .map((name) => ({ path: resolve(name), key: ['SSL_CERT_DIR'] }))
    // Distributions set lists of directories of which only some exist. Go also skips missing ones.
    .filter(({ path }) => context.kindOf(path) === 'directory');
  if (files.length + directories.length > 0) return { files, directories };
  // The trust store of the system is not a fallback: it would trust authorities other than the ones that were named.
  if (directoryNames.length > 0 && fileName === '') {
    reportError(
      context,
      ['SSL_CERT_DIR'],
      'none of these directories exists',
      directoryNames.join(delimiter),
    );
  }
  return undefined;
}
