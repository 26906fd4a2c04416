import { CERTIFICATE_DAYS, MAX_CERTIFICATE_DAYS } from '../../limits.js';
import type { CreateRequest } from './create.js';
import { KEY_TYPES, type KeyType } from './keys.js';
import { fileNameOf, MAX_COMMON_NAME_LENGTH, readSubjectName, type SubjectName } from './subject-name.js';
import type { Command, CommandEntry, Given } from '../command.js';
import { UsageError } from '../parse-flags.js';

const NAMES = { label: 'NAME', completes: 'nothing' } as const;

export const CERTIFICATES_CREATE: CommandEntry = {
  name: 'certificates create',
  summary: 'make a CA, server certificates and client certificates for Gitaly',
  description: [
    'Makes an authority (ca.pem, ca.key) in DIR, unless there is one, and from it a certificate NAME.pem with its key ' +
      'NAME.key for each --server and --client. Server certificates hold both key usages that Gitaly needs. Prints ' +
      'what was made and the gitlab.rb lines that use it; all that is no Ruby is a comment.',
    'NAME is a host name (for servers also *.example.com), an IP address or a URI. Several names for one certificate ' +
      'are joined by commas. Nothing is overwritten but with --renew, which makes new certificates with new keys; what ' +
      'they were valid for they stay valid for. The authority is never replaced. All is checked before anything is written.',
  ],
  usage: [
    'DIR [--ca-name NAME] --server NAME... [--client NAME...] [--days N] [--key-type ec|rsa]',
    'DIR --renew [--server NAME...] [--client NAME...]',
  ],
  words: { label: 'DIR', most: 1, completes: 'directory' },
  flags: [
    {
      name: 'ca-name',
      value: { label: 'NAME', completes: 'nothing' },
      text: 'what the authority is called (default: Gitaly CA); it is valid for 10 years',
    },
    {
      name: 'server',
      value: NAMES,
      repeatable: true,
      takesMore: true,
      text: 'a server certificate for each: the names that clients use, joined by commas',
    },
    {
      name: 'client',
      value: NAMES,
      repeatable: true,
      takesMore: true,
      text: 'a client certificate for each',
    },
    {
      name: 'days',
      value: { label: 'N', completes: 'nothing' },
      text: `how long server and client certificates are valid (default: ${CERTIFICATE_DAYS})`,
    },
    {
      name: 'key-type',
      value: { label: KEY_TYPES.join('|'), completes: KEY_TYPES },
      text: 'ec is P-256 (the default), rsa has 3072 bits',
    },
    {
      name: 'renew',
      text: 'replace certificates that are there; without --server and --client all that the authority has issued',
    },
  ],
  examples: [
    {
      text: 'an authority, certificates of two Gitaly nodes, and one for the Rails node',
      line:
        "gitaly-tls-proxy certificates create pki --ca-name 'Gitaly CA' --server gitaly-a.internal,10.1.2.3 " +
        'gitaly-b.internal --client rails-1.internal',
    },
    {
      text: 'one more node, later',
      line: 'gitaly-tls-proxy certificates create pki --server gitaly-c.internal',
    },
    {
      text: 'all of them anew, before they expire',
      line: 'gitaly-tls-proxy certificates create pki --renew',
    },
  ],
  read,
};

function read(given: Given): Command {
  const [directory] = given.words;
  if (directory === undefined)
    throw new UsageError('certificates create needs a directory: certificates create DIR --server NAME');
  const certificates = (['server', 'client'] as const).flatMap((role) =>
    given.values(role).map((value) => ({ role, names: readNames(role, value) })),
  );
  const renew = given.has('renew');
  if (certificates.length === 0 && !renew)
    throw new UsageError('say what to make: --server NAME, --client NAME, or --renew');
  refuseSameFiles(certificates.map(({ names: [first] }) => first));
  const request: CreateRequest = {
    directory,
    caName: readCaName(given.value('ca-name')),
    certificates,
    days: readDays(given.value('days')),
    keyType: readKeyType(given.value('key-type')),
    renew,
  };
  return { command: 'certificates create', request };
}

function readNames(role: 'server' | 'client', value: string): readonly [SubjectName, ...SubjectName[]] {
  const [first, ...others] = value.split(',').map((text) => {
    const name = readSubjectName(text.trim());
    if (name === undefined) {
      throw new UsageError(
        `--${role}: ${JSON.stringify(text)} is neither a host name nor an IP address nor a URI; names of one certificate ` +
          'are joined by commas, as in gitaly-a.internal,10.1.2.3',
      );
    }
    if (role === 'client' && name.value.startsWith('*.'))
      throw new UsageError(`--client: ${JSON.stringify(text)}: a client is one, not all of a domain`);
    return name;
  });
  if (first === undefined) throw new UsageError(`--${role} needs a value`);
  return [first, ...others];
}

/** The first name of a certificate names its files. */
function refuseSameFiles(names: readonly SubjectName[]): void {
  const seen = new Map<string, string>([['ca', 'the authority']]);
  for (const name of names) {
    const file = fileNameOf(name).toLowerCase();
    const other = seen.get(file);
    if (other !== undefined) {
      throw new UsageError(
        `${JSON.stringify(name.value)} and ${other} would have the same files, ${file}.pem and ${file}.key: the first name ` +
          'of each certificate must be its own',
      );
    }
    seen.set(file, JSON.stringify(name.value));
  }
}

function readCaName(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const name = value.trim();
  if (name === '' || name.length > MAX_COMMON_NAME_LENGTH || /\p{Cc}/u.test(name))
    throw new UsageError(`--ca-name must be 1 to ${MAX_COMMON_NAME_LENGTH} characters on one line`);
  return name;
}

function readDays(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const days = /^\d{1,5}$/u.test(value) ? Number(value) : 0;
  if (days < 1 || days > MAX_CERTIFICATE_DAYS)
    throw new UsageError(`--days must be a whole number from 1 to ${MAX_CERTIFICATE_DAYS}, not ${value}`);
  return days;
}

function readKeyType(value: string | undefined): KeyType | undefined {
  if (value === undefined) return undefined;
  const type = KEY_TYPES.find((each) => each === value);
  if (type === undefined) throw new UsageError(`--key-type must be ${KEY_TYPES.join(' or ')}, not ${value}`);
  return type;
}
