import { BlockList, isIP } from 'node:net';

import { MAX_IDENTITY_LENGTH } from '../limits.js';
import { isPrintable } from '../printable.js';
import { WildcardPattern } from './wildcards.js';

/** The kinds of names in a certificate that identify a client. */
const IDENTITY_KINDS = ['dns', 'uri', 'ip', 'email', 'cn', 'ou'] as const;
type IdentityKind = (typeof IDENTITY_KINDS)[number];

/** A name in a verified certificate: `dns:rails-1.gitlab.internal`. */
interface Identity {
  readonly kind: IdentityKind;
  readonly value: string;
}

type Match = (value: string) => boolean;

/** Which clients a pattern names. */
export interface IdentityPattern {
  readonly text: string;
  /** Whether it names every client, also one without an identity. */
  readonly namesAll: boolean;
  /** Whether it names the client with this identity. */
  matches(identity: string): boolean;
}

const EXAMPLES: Readonly<Record<IdentityKind, string>> = {
  dns: '"dns:rails-*.gitlab.internal"',
  uri: '"uri:spiffe://corp/ns/gitlab/**"',
  ip: '"ip:10.0.0.0/8"',
  email: '"email:*@corp.example"',
  cn: '"cn:rails"',
  ou: '"ou:Gitaly clients"',
};

/**
 * Reads a pattern such as `dns:*.gitlab.internal`.
 *
 * @returns the pattern, or what is wrong with it and what would be right.
 */
export function readIdentityPattern(text: string): IdentityPattern | string {
  if (text === '*') return { text, namesAll: true, matches: () => true };
  const identity = split(text);
  if (identity === undefined) {
    const kinds = IDENTITY_KINDS.map((kind) => `${kind}:`).join(', ');
    const hint = likelyPattern(text);
    return `expected a name that begins with one of ${kinds}, such as ${hint}, or "*" for every client`;
  }
  const { kind, value } = identity;
  if (value === '') return `the name after \`${kind}:\` is missing: write for example ${EXAMPLES[kind]}`;
  if (value.length > MAX_IDENTITY_LENGTH)
    return `must have at most ${MAX_IDENTITY_LENGTH} characters, as names in certificates`;
  if (!isPrintable(value))
    return `contains an invisible or control character; names with such characters match nothing: write for example ${EXAMPLES[kind]}`;
  const match = MATCHERS[kind](value);
  if (match === undefined) return FORMS[kind];
  return {
    text,
    namesAll: false,
    matches(name) {
      const other = split(name);
      return other?.kind === kind && other.value !== '' && isPrintable(other.value) && match(other.value);
    },
  };
}

/**
 * Returns a function that checks whether one of the patterns, which must be valid, names one of the identities of a client.
 * Without patterns, every client is named.
 */
export function identityCheck(
  patterns: readonly string[] | undefined,
): (identities: readonly string[]) => boolean {
  if (!patterns) return () => true;
  const read = patterns.map(readIdentityPattern).filter((pattern) => typeof pattern !== 'string');
  return (identities) => identities.some((identity) => read.some((pattern) => pattern.matches(identity)));
}

/** The pattern that was probably meant by a name without its kind. */
function likelyPattern(text: string): string {
  if (text.includes('://')) return `"uri:${text}"`;
  if (readNetwork(text)) return `"ip:${text}"`;
  if (/^[^:@]+@[^:@]+$/u.test(text)) return `"email:${text}"`;
  return /^[\w*-]+(?:\.[\w*-]+)+$/u.test(text) ? `"dns:${text}"` : EXAMPLES.dns;
}

/** Splits at the first colon; the kind is in lower case. */
function split(text: string): Identity | undefined {
  const colon = text.indexOf(':');
  const kind = IDENTITY_KINDS.find((one) => one === text.slice(0, colon));
  return kind === undefined ? undefined : { kind, value: text.slice(colon + 1) };
}

/** The form of a pattern of each kind, for messages. */
const FORMS: Readonly<Record<IdentityKind, string>> = {
  dns: `expected a DNS name such as ${EXAMPLES.dns}: letters, digits, "-", "_" and wildcards, separated by dots`,
  uri: `expected a URI whose scheme has no wildcard and whose path has no "." or ".." segment, such as ${EXAMPLES.uri}`,
  ip: `expected an IP address or a network in CIDR notation without wildcards, such as ${EXAMPLES.ip}`,
  email: `expected a mail address with one "@", such as ${EXAMPLES.email}`,
  cn: `expected a Common Name such as ${EXAMPLES.cn}`,
  ou: `expected an organizational unit such as ${EXAMPLES.ou}`,
};

/** Returns a function that compares names with a pattern; `undefined` if the pattern is malformed. */
const MATCHERS: Readonly<Record<IdentityKind, (pattern: string) => Match | undefined>> = {
  dns(pattern) {
    if (!/^[\w*-]+(?:\.[\w*-]+)*\.?$/u.test(pattern)) return undefined;
    const labels = new WildcardPattern(hostName(pattern), '.');
    return (name) => labels.matches(hostName(name));
  },
  uri(pattern) {
    const parts = splitUri(pattern);
    if (parts === undefined) return undefined;
    const user = new WildcardPattern(parts.user, '@');
    const host = new WildcardPattern(parts.host, '.:');
    const path = new WildcardPattern(parts.path, '/?#');
    return (name) => {
      const other = splitUri(name);
      return (
        other?.scheme === parts.scheme &&
        other.hasAuthority === parts.hasAuthority &&
        user.matches(other.user) &&
        host.matches(other.host) &&
        path.matches(other.path)
      );
    };
  },
  ip(pattern) {
    const network = readNetwork(pattern);
    return network && ((name) => isIP(name) !== 0 && network.check(name, family(name)));
  },
  email(pattern) {
    const parts = splitMail(pattern);
    if (parts === undefined || parts.local.includes('@')) return undefined;
    const local = new WildcardPattern(parts.local, '.');
    const domain = new WildcardPattern(parts.domain, '.');
    return (name) => {
      const other = splitMail(name);
      return other !== undefined && local.matches(other.local) && domain.matches(other.domain);
    };
  },
  cn: attribute,
  ou: attribute,
};

/** RFC 4519 section 2.3: the attributes of a subject are compared without regard to case. */
function attribute(pattern: string): Match {
  const value = new WildcardPattern(lowerCase(pattern), './');
  return (name) => value.matches(lowerCase(name));
}

/** Only ASCII letters: other letters may have a lower-case form that is an ASCII letter, such as the Kelvin sign. */
function lowerCase(text: string): string {
  return text.replace(/[A-Z]/gu, (letter) => letter.toLowerCase());
}

function hostName(text: string): string {
  return lowerCase(text).replace(/\.$/u, '');
}

interface UriParts {
  readonly scheme: string;
  readonly hasAuthority: boolean;
  readonly user: string;
  /** With its port. */
  readonly host: string;
  /** With query and fragment. */
  readonly path: string;
}

/** RFC 3986 section 3. `undefined` if it is not a URI, or has a segment `.` or `..`, which servers resolve differently. */
function splitUri(text: string): UriParts | undefined {
  const [, scheme, rest = ''] = /^([a-z][a-z\d+.-]*):(.+)$/isu.exec(text) ?? [];
  if (scheme === undefined) return undefined;
  const hasAuthority = rest.startsWith('//');
  const afterSlashes = hasAuthority ? rest.slice(2) : rest;
  const end = hasAuthority ? afterSlashes.search(/[/?#]/u) : 0;
  const authority = end < 0 ? afterSlashes : afterSlashes.slice(0, end);
  const path = end < 0 ? '' : afterSlashes.slice(end);
  const [beforeQuery = ''] = path.split(/[?#]/u);
  if (beforeQuery.split('/').some((segment) => /^(?:\.|%2e){1,2}$/iu.test(segment))) return undefined;
  const at = authority.lastIndexOf('@');
  return {
    scheme: scheme.toLowerCase(),
    hasAuthority,
    user: authority.slice(0, at + 1),
    host: lowerCase(authority.slice(at + 1)),
    path,
  };
}

function splitMail(text: string): { readonly local: string; readonly domain: string } | undefined {
  const at = text.lastIndexOf('@');
  const [local, domain] = [text.slice(0, at), hostName(text.slice(at + 1))];
  return at < 1 || domain === '' ? undefined : { local, domain };
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

function readNetwork(text: string): BlockList | undefined {
  const [address = '', prefix, ...more] = text.split('/');
  if (isIP(address) === 0 || address.includes('%') || more.length > 0) return undefined;
  const bits = isIP(address) === 4 ? 32 : 128;
  const length = prefix === undefined ? bits : /^\d{1,3}$/u.test(prefix) ? Number(prefix) : NaN;
  if (!(length <= bits)) return undefined;
  const network = new BlockList();
  network.addSubnet(address, length, family(address));
  return network;
}
