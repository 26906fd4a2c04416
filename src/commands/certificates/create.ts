import { join } from 'node:path';

import { isSystemError } from '../../error-codes.js';
import { AUTHORITY_DAYS, CERTIFICATE_DAYS } from '../../limits.js';
import { describeIssuer, describeSubject } from '../../x509/certificate-names.js';
import type { Certificate } from '../../x509/certificate.js';
import { FileProblem } from '../../x509/pem-files.js';
import { AUTHORITY_NAME, authorityPaths, findAuthority } from './authority-files.js';
import { findIssued, isIssuedBy, isThere, readExisting, type ExistingCertificate } from './existing-files.js';
import { createAuthority, issueLeaf, type Issuer, type LeafRole } from './issue.js';
import type { KeyType } from './keys.js';
import { FileExists, placeFiles, type NewFile } from './place-files.js';
import { fileNameOf, type SubjectName } from './subject-name.js';

const DAY_MS = 86_400_000;

/** The names of one certificate. */
type Names = readonly [SubjectName, ...SubjectName[]];

/** What `certificates create` is asked for. */
export interface CreateRequest {
  readonly directory: string;
  readonly caName: string | undefined;
  readonly certificates: readonly { readonly role: LeafRole; readonly names: Names }[];
  readonly days: number | undefined;
  readonly keyType: KeyType | undefined;
  readonly renew: boolean;
}

/** A certificate that has been made, and where its files are. */
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
  /** When all of them end. */
  readonly notAfter: Date;
}

/** Why nothing was made: one line for each thing that is in the way. */
export class NothingCreated extends Error {
  constructor(readonly lines: readonly string[]) {
    super(lines.join('\n'));
  }
}

/** A certificate to issue; what is there already of it has been looked at. */
interface Planned extends CreatedCertificate {
  readonly keyType: KeyType;
}

/**
 * Makes an authority, unless the directory has one, and certificates from it. Everything is checked and made before the
 * first file is written.
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
        'leave --ca-name out to issue from it, or take another directory',
    );
  }
  const authorityEnd = found ? found.x509.validTo : inDays(now, AUTHORITY_DAYS);
  const notAfter = inDays(now, days ?? CERTIFICATE_DAYS);
  if (notAfter > authorityEnd) {
    const left = Math.floor((authorityEnd.getTime() - now.getTime()) / DAY_MS);
    problems.push(
      `the authority ends on ${authorityEnd.toISOString()}, and no certificate may outlive it: at most --days ${left}, or ` +
        'make a new authority in another directory',
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
): Promise<Planned[]> {
  if (renew && certificates.length === 0) return planRenewals(directory, authority, keyType, problems);
  const planned: Planned[] = [];
  for (const { role, names } of certificates) {
    const base = fileNameOf(names[0]);
    const paths = leafPaths(directory, base);
    const fresh = { role, names, ...paths, keyType: keyType ?? 'ec', renewed: false };
    const there = await attempt(problems, async () => {
      const [certificate, key] = [await isThere(paths.certificatePath), await isThere(paths.keyPath)];
      return { certificate, key };
    });
    if (there === undefined) continue;
    if (!there.certificate && !there.key) {
      planned.push(fresh);
    } else if (!renew) {
      const path = there.certificate ? paths.certificatePath : paths.keyPath;
      problems.push(`${path} is there already: --renew replaces it, with a new key`);
    } else {
      const renewal = await planRenewal(paths, role, authority, keyType, problems);
      // What it was good for it stays good for: a name that is not given again is in use somewhere.
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
): Promise<Planned[]> {
  if (authority === undefined) {
    problems.push(`${authorityPaths(directory).certificatePath}: there is no authority to renew from`);
    return [];
  }
  const issued = (await attempt(problems, () => findIssued(directory, authority))) ?? [];
  if (issued.length === 0 && problems.length === 0)
    problems.push(`${directory}: holds no certificate of ${describeSubject(authority)} with its key`);
  const planned: Planned[] = [];
  for (const name of issued) {
    const renewal = await planRenewal(leafPaths(directory, name), undefined, authority, keyType, problems);
    if (renewal) planned.push(renewal);
  }
  return planned;
}

/** @param role - `undefined`: whatever it has been. */
async function planRenewal(
  paths: { readonly certificatePath: string; readonly keyPath: string },
  role: LeafRole | undefined,
  authority: Certificate | undefined,
  keyType: KeyType | undefined,
  problems: string[],
): Promise<Planned | undefined> {
  const { certificatePath } = paths;
  const existing = await attempt(problems, () => readExisting(certificatePath));
  if (existing === undefined) return undefined;
  const [first, ...others] = existing.names;
  const wrong = whyNotRenewed(existing, role, authority);
  if (wrong !== undefined || first === undefined) {
    problems.push(`${certificatePath}: is not renewed: ${wrong ?? 'it has no Subject Alternative Name'}`);
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
    return `it was issued by ${describeIssuer(existing.x509)} and not by ${AUTHORITY_NAME}.pem beside it`;
  }
  return role === undefined || role === existing.role
    ? undefined
    : `it is a ${existing.role}'s and not a ${role}'s`;
}

/** The key first: a reader that finds the new one with the old certificate waits for its partner, as the proxy does. */
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

/** Runs a step; what is in the way of it becomes a line, anything else is a fault of ours and goes on. */
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
