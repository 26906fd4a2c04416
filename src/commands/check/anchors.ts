import type { Environment } from '../../config/build-context.js';
import { withFiles } from '../../config/named-files.js';
import type { KeyPath, Problem, TrustSource } from '../../config/model.js';
import { resolveTrust } from '../../config/trust-settings.js';
import type { Certificate } from '../../x509/certificate.js';
import { parseCertificates } from '../../x509/pem-files.js';
import { loadSystemTrust, loadTrust, type TrustAnchors } from '../../x509/trust.js';

/** The authorities that a server is verified with. */
export interface Anchors {
  /** PEM texts. */
  readonly pem: readonly string[];
  readonly certificates: readonly Certificate[];
  /** Where they come from, in words. */
  readonly source: string;
}

/** Those of `--ca`, else of the environment, else of the system; `undefined` if they cannot be read. */
export async function loadAnchors(
  ca: string | undefined,
  env: Environment,
  problems: Problem[],
): Promise<Anchors | undefined> {
  const { source, found } = await withFiles((files) => {
    const found: Problem[] = [];
    const context = {
      directory: process.cwd(),
      env,
      ...files,
      isBroken: () => false,
      nameKey: (key: KeyPath) => key,
      report: (problem: Problem) => found.push(problem),
    };
    return {
      source: resolveTrust(context, ca === undefined ? undefined : { value: ca, key: ['--ca'] }),
      found,
    };
  });
  problems.push(...found);
  if (found.length > 0) return undefined;
  if (!source) return systemAnchors(await loadSystemTrust());
  const anchors = await loadTrust(source, problems);
  return anchors && namedAnchors(source, anchors);
}

/** Those of files and directories. */
export function namedAnchors({ files, directories }: TrustSource, anchors: TrustAnchors): Anchors {
  return {
    pem: anchors.map(({ pem }) => pem),
    certificates: anchors.map(({ x509 }) => x509),
    source: [...files, ...directories].map(({ path }) => path).join(', '),
  };
}

/** Those of the system's store. */
export function systemAnchors(pem: readonly string[]): Anchors {
  const source = "the system's trust store";
  const certificates = pem.flatMap((text) => parseCertificates(source, text).map(({ x509 }) => x509));
  return { pem, certificates, source };
}
