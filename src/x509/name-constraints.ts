import { contextTag, readAll, readDer, readOptional, TAG } from './der.js';
import { formatDistinguishedName, type DistinguishedName } from './distinguished-name.js';
import { describeGeneralName, formatIpAddress, readGeneralName, type GeneralName } from './general-names.js';

/** The names that an authority may issue for (RFC 5280 section 4.2.1.10). */
export interface NameConstraints {
  /** If there are constraints of its kind, a name must be within one of them. */
  readonly permitted: readonly GeneralName[];
  /** A name must not be within any of these. */
  readonly excluded: readonly GeneralName[];
}

/** @throws Error if the extension is malformed */
export function readNameConstraints(value: Buffer): NameConstraints {
  const { content } = readDer(value, TAG.sequence);
  const permitted = readOptional(content, contextTag(0));
  const excluded = readOptional(permitted?.rest ?? content, contextTag(1));
  return { permitted: readSubtrees(permitted?.content), excluded: readSubtrees(excluded?.content) };
}

/** The Internet profile does not allow a minimum and maximum after a base. */
function readSubtrees(content: Buffer | undefined): GeneralName[] {
  if (content === undefined) return [];
  return readAll(content).map((subtree) => {
    const [tag = 0] = subtree.content;
    return readGeneralName(readDer(subtree.content, tag));
  });
}

/** Explains why constraints exclude a name, as a clause whose subject is the authority; `undefined` if they permit it. */
export function violation(name: GeneralName, { permitted, excluded }: NameConstraints): string | undefined {
  const excluding = excluded.find((base) => isWithin(name, base));
  if (excluding) return `it excludes ${describeConstraint(excluding)}`;
  const ofKind = permitted.filter(({ kind }) => kind === name.kind);
  if (ofKind.length === 0 || ofKind.some((base) => isWithin(name, base))) return undefined;
  return `it permits only ${ofKind.map(describeConstraint).join(', ')}`;
}

function isWithin(name: GeneralName, base: GeneralName): boolean {
  switch (name.kind) {
    case 'dns':
      return base.kind === 'dns' && isHostWithin(name.value, base.value, true);
    case 'uri':
      return base.kind === 'uri' && isHostWithin(hostOf(name.value), base.value, false);
    case 'email':
      return base.kind === 'email' && isMailboxWithin(name.value, base.value);
    case 'ip':
      return base.kind === 'ip' && isAddressWithin(name.value, base.value);
    case 'directory':
      return base.kind === 'directory' && isDirectoryWithin(name.value, base.value);
    case 'other':
    case 'malformed':
      return false;
  }
}

/**
 * Whether a host is within a constraint. A leading dot requires at least one more label. Without the dot, the name itself is
 * within and, for DNS names, so are its subdomains. For URIs the host must be equal.
 */
function isHostWithin(host: string, base: string, below: boolean): boolean {
  const [name, suffix] = [host.toLowerCase().replace(/\.$/u, ''), base.toLowerCase()];
  if (suffix === '') return true;
  if (suffix.startsWith('.')) return name.endsWith(suffix);
  return name === suffix || (below && name.endsWith(`.${suffix}`));
}

function isMailboxWithin(mailbox: string, base: string): boolean {
  const at = mailbox.lastIndexOf('@');
  if (!base.includes('@')) return isHostWithin(mailbox.slice(at + 1), base, false);
  // RFC 5321 section 2.4: the local part is case-sensitive, the domain is not.
  const domain = (address: string): string => address.slice(address.lastIndexOf('@') + 1).toLowerCase();
  return mailbox.slice(0, at) === base.slice(0, base.lastIndexOf('@')) && domain(mailbox) === domain(base);
}

function isAddressWithin(address: Buffer, base: Buffer): boolean {
  const { length } = address;
  return (
    base.length === 2 * length &&
    address.every((byte, index) => {
      const mask = base[length + index] ?? 0;
      return (byte & mask) === ((base[index] ?? 0) & mask);
    })
  );
}

function isDirectoryWithin(own: DistinguishedName, wanted: DistinguishedName): boolean {
  // RFC 5280 section 7.1: case and the number of spaces do not matter.
  const normal = (relative: DistinguishedName[number]): string =>
    formatDistinguishedName([relative]).toLowerCase().replace(/\s+/gu, ' ');
  return wanted.every((relative, index) => {
    const mine = own[index];
    return mine !== undefined && normal(mine) === normal(relative);
  });
}

function hostOf(uri: string): string {
  return /^[^:]*:\/\/(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)/u.exec(uri)?.[1] ?? '';
}

/** Formats the base of a constraint for a message, such as `10.0.0.0/8`. */
function describeConstraint(base: GeneralName): string {
  if (base.kind !== 'ip')
    return base.value.length === 0 ? `all names of type ${base.kind}` : describeGeneralName(base);
  const half = base.value.length / 2;
  const ones = base.value
    .subarray(half)
    .reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0);
  return `${formatIpAddress(base.value.subarray(0, half)) ?? 'an invalid address'}/${ones}`;
}
