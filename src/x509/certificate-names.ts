import { isIP } from 'node:net';

import { MAX_IDENTITY_LENGTH, MAX_NAMES_SHOWN } from '../limits.js';
import { isPrintable, printable } from '../printable.js';
import type { Certificate } from './certificate.js';
import { describeGeneralName, formatIpAddress, type GeneralName } from './general-names.js';

/** The Subject Alternative Names of a certificate. The Common Name is ignored. */
export interface CertificateNames {
  /** Lower case; may begin with `*.`. */
  readonly dns: readonly string[];
  /** In the form of RFC 5952. */
  readonly ip: readonly string[];
  readonly uri: readonly string[];
}

/** The SANs, exactly as in the certificate. Those that are not ASCII are omitted, because no host or URI has such a name. */
export function certificateNames({ alternativeNames }: Certificate): CertificateNames {
  const ofKind = (kind: GeneralName['kind']): string[] =>
    alternativeNames.flatMap((name) => (name.kind === kind ? (textOf(name) ?? []) : []));
  return { dns: ofKind('dns'), ip: ofKind('ip'), uri: ofKind('uri') };
}

function textOf(name: GeneralName): string | undefined {
  switch (name.kind) {
    case 'dns':
      return name.value.toLowerCase();
    case 'uri':
    case 'email':
      return name.value;
    case 'ip':
      return formatIpAddress(name.value);
    case 'directory':
    case 'other':
    case 'malformed':
      return undefined;
  }
}

/** The names for a message: `gitaly-a.internal, 10.0.0.1`, or `none`. */
export function describeNames({ dns, ip, uri }: CertificateNames): string {
  return describeAll([...dns, ...ip, ...uri]) ?? 'none';
}

function describeAll(names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined;
  const shown = names.slice(0, MAX_NAMES_SHOWN).map(printable).join(', ');
  return names.length > MAX_NAMES_SHOWN ? `${shown} and ${names.length - MAX_NAMES_SHOWN} more` : shown;
}

/** Describes the holder of a certificate on one printable line: its subject, or its SANs if the subject is empty. */
export function describeSubject(certificate: Certificate): string {
  const { subject, alternativeNames } = certificate;
  if (subject !== '') return subject;
  return describeAll(alternativeNames.map(describeGeneralName)) ?? 'a certificate without a name';
}

/** Describes the issuer of a certificate on one printable line. */
export function describeIssuer(certificate: Certificate): string {
  return certificate.issuer === '' ? 'an authority without a name' : certificate.issuer;
}

/** Whether a SAN of a certificate matches the name. The Common Name is ignored, as by Gitaly's own clients. */
export function holdsName(certificate: Certificate, name: string): boolean {
  return isIP(name) === 0 ? certificate.matchesHost(name) : certificate.matchesIp(name);
}

/**
 * The identity of a verified client, for the log and for `X-SSL-Client-Identity`: its first URI (SPIFFE), else its first DNS
 * name, else the only Common Name, else the whole subject, else its first IP or mail address.
 *
 * The first of these that the certificate has decides. `undefined` if that one contains a control, format, line or blank
 * character, is not text, is too long, or is not of the form of its kind: a name that can be mistaken for another is not an
 * identity.
 */
export function certificateIdentity(certificate: Certificate): string | undefined {
  const { alternativeNames, commonName, subject } = certificate;
  const first = (kind: 'dns' | 'uri' | 'email' | 'ip'): GeneralName | undefined =>
    alternativeNames.find((name) => name.kind === kind || (name.kind === 'malformed' && name.of === kind));
  const named = first('uri') ?? first('dns');
  if (named) return usable(identityOf(named));
  if (commonName !== undefined) return usable(commonName);
  // An escaped subject is always printable, so its values decide.
  if (subject !== '') return certificate.hasPrintableSubject ? usable(subject) : undefined;
  const address = first('ip') ?? first('email');
  return address && usable(identityOf(address));
}

/**
 * All identities of a verified client, for the policy: its URIs, DNS names, mail addresses and IP addresses, each in the order of
 * the certificate, then its only Common Name and its organizational units: `uri:spiffe://corp/rails`, `dns:rails.internal`.
 *
 * A name that contains a control, format, line or blank character, is not text, is too long, or is not of the form of its kind
 * is left out.
 */
export function identitiesOf(certificate: Certificate): readonly string[] {
  const { alternativeNames, commonName, subjectName } = certificate;
  const ofKind = (kind: 'uri' | 'dns' | 'email' | 'ip'): string[] =>
    alternativeNames.flatMap((name) => (name.kind === kind ? withKind(kind, identityOf(name)) : []));
  return [
    ...ofKind('uri'),
    ...ofKind('dns'),
    ...ofKind('email'),
    ...ofKind('ip'),
    ...withKind('cn', commonName),
    ...subjectName.flat().flatMap(({ type, value }) => (type === 'OU' ? withKind('ou', value) : [])),
  ];
}

/** The identities for a message, on one printable line. */
export function describeIdentities(identities: readonly string[]): string {
  return describeAll(identities) ?? 'none';
}

function withKind(kind: string, value: string | undefined): string[] {
  return usable(value) === undefined ? [] : [`${kind}:${value}`];
}

/** The forms of the kinds that are text. They exclude each other: a name of one kind cannot imitate a name of another. */
const FORMS = {
  /** RFC 3986 section 3.1: a scheme, and something behind it. */
  uri: /^[a-z][a-z\d+.-]*:[!-~]+$/iu,
  /** A host name, with underscores; a label may be a wildcard. */
  dns: /^[\w*-]+(?:\.[\w*-]+)*\.?$/u,
  email: /^[!-~]+@[!-~]+$/u,
} as const;

function identityOf(name: GeneralName): string | undefined {
  switch (name.kind) {
    case 'uri':
    case 'dns':
      return FORMS[name.kind].test(name.value) ? textOf(name) : undefined;
    case 'email':
      return FORMS.email.test(name.value) && !FORMS.uri.test(name.value) ? textOf(name) : undefined;
    case 'ip':
      return textOf(name);
    case 'directory':
    case 'other':
    case 'malformed':
      return undefined;
  }
}

function usable(identity: string | undefined): string | undefined {
  return identity !== undefined &&
    identity.trim() !== '' &&
    identity.length <= MAX_IDENTITY_LENGTH &&
    isPrintable(identity)
    ? identity
    : undefined;
}
