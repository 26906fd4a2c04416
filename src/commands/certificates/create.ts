import { join } from 'node:path';

import { isSystemError } from '../../error-codes.js';
import { AUTHORITY_DAYS, CERTIFICATE_DAYS } from '../../limits.js';
import { describeIssuer, describeSubject } from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { FileProblem } from '../../x509/pem-files.js';
import { AUTHORITY_NAME, authorityPaths, findAuthority } from './authority-files.js';
import {
  findIssued,
  isIssuedBy,
  pathExists,
  readExisting,
  type ExistingCertificate,
} from './existing-files.js';
import { createAuthority, issueLeaf, type Issuer, type LeafRole } from './issue.js';
import type { KeyType } from './keys.js';
import { FileExists, placeFiles, type NewFile } from './place-files.js';
import { fileNameOf, type SubjectName } from './subject-name.js';

const DAY_MS = 86_400_000;

/** The names of one certificate. */
type Names = readonly [SubjectName, ...SubjectName[]];

/** The arguments of `certificates create`. */
export interface CreateRequest {
  readonly directory: string;
  readonly caName: string | undefined;
  readonly certificates: readonly { readonly role: LeafRole; readonly names: Names }[];
  readonly days: number | undefined;
  readonly keyType: KeyType | undefined;
  readonly renew: boolean;
}

/** A created certificate and the paths of its files. */
export interface CreatedCertificate {
  readonly role: LeafRole;
  readonly names: Names;
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly renewed: boolean;
}

export interface Created {
  readonly authority: {
    readonly name: string;
    readonly certificatePath: string;
    readonly keyPath: string;
    readonly notAfter: Date;
    readonly isNew: boolean;
  };
  readonly certificates: readonly CreatedCertificate[];
  /** The end of validity of all certificates. */
  readonly notAfter: Date;
}

/** Nothing was created. Each line is one reason. */
export class NothingCreated extends Error {
  constructor(readonly lines: readonly string[]) {
    super(lines.join('\n'));
  }
}

/** A certificate to issue. Its existing files have been checked. */
interface PlannedCertificate extends CreatedCertificate {
  readonly keyType: KeyType;
}

/**
 * Creates an authority, unless the directory has one, and certificates from it. Everything is checked and generated
 * before the first file is written.
 * @throws NothingCreated
 */
export async function createCertificates(request: CreateRequest, now: Date): Promise<Created> {
  const { directory, caName, days } = request;
  const problems: string[] = [];
  const found = await attempt(problems, () => findAuthority(directory, now));
  if (problems.length > 0) throw new NothingCreated(problems);
  const paths = authorityPaths(directory);
  const commonName = found && commonNameOf(found.x509);
  if (commonName !== undefined && caName !== undefined && caName !== commonName) {
    problems.push(
      `${paths.certificatePath} is the authority ${JSON.stringify(commonName)} and not ${JSON.stringify(caName)}: ` +
        'omit --ca-name to issue from it, or use another directory',
    );
  }
  const authorityEnd = found ? found.x509.validTo : inDays(now, AUTHORITY_DAYS);
  const notAfter = inDays(now, days ?? CERTIFICATE_DAYS);
  if (notAfter > authorityEnd) {
    const left = Math.floor((authorityEnd.getTime() - now.getTime()) / DAY_MS);
    problems.push(
      `the authority expires on ${authorityEnd.toISOString()}, and no certificate may outlive it: use at most --days ` +
        `${left}, or create a new authority in another directory`,
    );
  }
  const planned = await plan(request, found?.x509, problems);
  if (problems.length > 0) throw new NothingCreated(problems);

  const files: NewFile[] = [];
  let issuer: Issuer;
  if (found) ({ issuer } = found);
  else {
    const made = await createAuthority(caName ?? DEFAULT_CA_NAME, request.keyType ?? 'ec', authorityEnd);
    ({ issuer } = made);
    files.push(...pairFiles(paths, made.pair, false));
  }
  for (const { role, names, keyType, renewed, ...own } of planned)
    files.push(...pairFiles(own, await issueLeaf(issuer, { role, names, keyType, notAfter }), renewed));
  await attempt(problems, () => placeFiles(files));
  if (problems.length > 0) throw new NothingCreated(problems);
  return {
    authority: {
      ...paths,
      name: commonName ?? caName ?? DEFAULT_CA_NAME,
      notAfter: authorityEnd,
      isNew: !found,
    },
    certificates: planned,
    notAfter,
  };
}

const DEFAULT_CA_NAME = 'Gitaly CA';

async function plan(
  { directory, certificates, keyType, renew }: CreateRequest,
  authority: Certificate | undefined,
  problems: string[],
): Promise<PlannedCertificate[]> {
  if (renew && certificates.length === 0) return planRenewals(directory, authority, keyType, problems);
  const planned: PlannedCertificate[] = [];
  for (const { role, names } of certificates) {
    const base = fileNameOf(names[0]);
    const paths = leafPaths(directory, base);
    const fresh = { role, names, ...paths, keyType: keyType ?? 'ec', renewed: false };
    const there = await attempt(problems, async () => {
      const [certificate, key] = [await pathExists(paths.certificatePath), await pathExists(paths.keyPath)];
      return { certificate, key };
    });
    if (there === undefined) continue;
    if (!there.certificate && !there.key) {
      planned.push(fresh);
    } else if (!renew) {
      const path = there.certificate ? paths.certificatePath : paths.keyPath;
      problems.push(`${path} already exists: --renew replaces it, with a new key`);
    } else {
      const renewal = await planRenewal(paths, role, authority, keyType, problems);
      // A renewed certificate keeps all its names: a name that is not given again may still be in use.
      if (renewal) planned.push({ ...renewal, names: joinNames(names, renewal.names) });
    }
  }
  return planned;
}

async function planRenewals(
  directory: string,
  authority: Certificate | undefined,
  keyType: KeyType | undefined,
  problems: string[],
): Promise<PlannedCertificate[]> {
  if (authority === undefined) {
    problems.push(`${authorityPaths(directory).certificatePath} does not exist: no authority to renew from`);
    return [];
  }
  const issued = (await attempt(problems, () => findIssued(directory, authority))) ?? [];
  if (issued.length === 0 && problems.length === 0)
    problems.push(
      `${directory}: contains no certificate that ${describeSubject(authority)} has issued and whose key is beside it`,
    );
  const planned: PlannedCertificate[] = [];
  for (const name of issued) {
    const renewal = await planRenewal(leafPaths(directory, name), undefined, authority, keyType, problems);
    if (renewal) planned.push(renewal);
  }
  return planned;
}

/** @param role - `undefined` keeps the existing role. */
async function planRenewal(
  paths: { readonly certificatePath: string; readonly keyPath: string },
  role: LeafRole | undefined,
  authority: Certificate | undefined,
  keyType: KeyType | undefined,
  problems: string[],
): Promise<PlannedCertificate | undefined> {
  const { certificatePath } = paths;
  const existing = await attempt(problems, () => readExisting(certificatePath));
  if (existing === undefined) return undefined;
  const [first, ...others] = existing.names;
  const wrong = whyNotRenewed(existing, role, authority);
  if (wrong !== undefined || first === undefined) {
    problems.push(`${certificatePath}: not renewed: ${wrong ?? 'it has no Subject Alternative Name'}`);
    return undefined;
  }
  return {
    role: existing.role,
    names: [first, ...others],
    ...paths,
    keyType: keyType ?? existing.keyType,
    renewed: true,
  };
}

function whyNotRenewed(
  existing: ExistingCertificate,
  role: LeafRole | undefined,
  authority: Certificate | undefined,
): string | undefined {
  if (authority === undefined || !isIssuedBy(existing.x509, authority)) {
    return `it was issued by ${describeIssuer(existing.x509)}, not by the ${AUTHORITY_NAME}.pem beside it`;
  }
  return role === undefined || role === existing.role
    ? undefined
    : `it is a ${existing.role} certificate, not a ${role} certificate`;
}

/** The key comes first: the proxy, when it finds the new key with the old certificate, waits for the new certificate. */
function pairFiles(
  { certificatePath, keyPath }: { readonly certificatePath: string; readonly keyPath: string },
  { certificatePem, keyPem }: { readonly certificatePem: string; readonly keyPem: string },
  replace: boolean,
): NewFile[] {
  return [
    { path: keyPath, content: keyPem, secret: true, replace },
    { path: certificatePath, content: certificatePem, secret: false, replace },
  ];
}

function leafPaths(directory: string, name: string): { certificatePath: string; keyPath: string } {
  return { certificatePath: join(directory, `${name}.pem`), keyPath: join(directory, `${name}.key`) };
}

function joinNames([first, ...others]: Names, more: readonly SubjectName[]): Names {
  const joined: [SubjectName, ...SubjectName[]] = [first];
  for (const each of [...others, ...more]) {
    if (!joined.some(({ kind, value }) => kind === each.kind && value === each.value)) joined.push(each);
  }
  return joined;
}

function commonNameOf(x509: Certificate): string {
  return x509.commonName ?? describeSubject(x509);
}

function inDays(now: Date, days: number): Date {
  return new Date(now.getTime() + days * DAY_MS);
}

/** Runs a step. Errors in files become problems; any other error is a bug and is thrown. */
async function attempt<T>(problems: string[], step: () => Promise<T>): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    if (!(error instanceof FileProblem) && !(error instanceof FileExists) && !isSystemError(error))
      throw error;
    problems.push(error.message);
    return undefined;
  }
}
