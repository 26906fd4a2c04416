import { CERTIFICATE_DAYS, MAX_CERTIFICATE_DAYS } from '../../limits.js';
import type { CreateRequest } from './create.js';
import { KEY_TYPES, type KeyType } from './keys.js';
import { fileNameOf, MAX_COMMON_NAME_LENGTH, readSubjectName, type SubjectName } from './subject-name.js';
import type { Command, CommandEntry, Given } from '../command.js';
import { UsageError } from '../parse-flags.js';

const NAMES = { label: 'NAME', completes: 'nothing' } as const;

export const CERTIFICATES_CREATE: CommandEntry = {
  name: 'certificates create',
  summary: 'create a CA, server certificates and client certificates for Gitaly',
  description: [
    'Creates a CA (ca.pem, ca.key) in DIR, unless it has one, and for each --server and --client a certificate NAME.pem ' +
      'with its key NAME.key. Server certificates contain both extended key usages that Gitaly needs. Prints the created ' +
      'files and the gitlab.rb lines that use them; everything that is not Ruby is a comment.',
    'NAME is a host name (for servers also *.example.com), an IP address or a URI; commas separate several names of one ' +
      'certificate. Existing files are replaced only with --renew, which creates new certificates with new keys and keeps ' +
      'all names of the old ones. The CA is never replaced. Everything is checked before the first file is written.',
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
      text: 'the name of a new CA, which is valid for 10 years (default: Gitaly CA)',
    },
    {
      name: 'server',
      value: NAMES,
      repeatable: true,
      takesMore: true,
      text: 'create a server certificate for each NAME: the names that clients use, separated by commas',
    },
    {
      name: 'client',
      value: NAMES,
      repeatable: true,
      takesMore: true,
      text: 'create a client certificate for each NAME',
    },
    {
      name: 'days',
      value: { label: 'N', completes: 'nothing' },
      text: `how many days server and client certificates are valid (default: ${CERTIFICATE_DAYS})`,
    },
    {
      name: 'key-type',
      value: { label: KEY_TYPES.join('|'), completes: KEY_TYPES },
      text: 'ec is P-256 (default), rsa has 3072 bits',
    },
    {
      name: 'renew',
      text: 'replace existing certificates; without --server and --client, all that the CA has issued',
    },
  ],
  examples: [
    {
      text: 'a CA, certificates for two Gitaly nodes and one for the Rails node',
      line:
        "gitaly-tls-proxy certificates create pki --ca-name 'Gitaly CA' --server gitaly-a.internal,10.1.2.3 " +
        'gitaly-b.internal --client rails-1.internal',
    },
    {
      text: 'one more node, later',
      line: 'gitaly-tls-proxy certificates create pki --server gitaly-c.internal',
    },
    {
      text: 'renew all of them before they expire',
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
    throw new UsageError('nothing to create: give --server NAME, --client NAME or --renew');
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
        `--${role}: ${JSON.stringify(text)} is not a host name, an IP address or a URI; separate the names of one ` +
          'certificate by commas, as in gitaly-a.internal,10.1.2.3',
      );
    }
    if (role === 'client' && name.value.startsWith('*.'))
      throw new UsageError(
        `--client: ${JSON.stringify(text)}: a client certificate cannot have a wildcard name`,
      );
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
        `${JSON.stringify(name.value)} and ${other} would use the same files, ${file}.pem and ${file}.key: give each ` +
          'certificate a different first name',
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
