import { MAX_CHECKED_ADDRESSES } from '../../limits.js';
import { isHttpScheme, parseAddress } from '../../config/address.js';
import { parseDuration } from '../../config/duration.js';
import type { Address } from '../../config/model.js';
import { checkHost } from '../../config/host-port.js';
import type { CheckOptions, Command, CommandEntry, Given } from '../command.js';
import { UsageError } from '../parse-flags.js';

const FILE = { label: 'FILE', completes: 'file' } as const;

const DEFAULT_TIMEOUT = '5s';

export const CHECK: CommandEntry = {
  name: 'check',
  summary: 'be a client of Gitaly and say what is wrong on the way to it',
  description: [
    'Does what a client of Gitaly does at each ADDRESS, a Gitaly or whatever stands in front of one: resolves the name, ' +
      'connects, shakes hands, looks at ALPN, certificates and their names, and makes a health call over HTTP/2, as ' +
      'Rails does, and over the backchannel, as Workhorse and gitlab-shell do. With the token it asks for the version and ' +
      'the storages. All addresses of a name are checked, each by itself.',
    'Each step is Passed, Failed with the cause and its cure, or Skipped with the reason. Exits with 0 if none has ' +
      'failed, else with 1.',
    'ADDRESS is tls://host:port, dns+tls:host:port, tcp://host:port, dns:host:port or unix:/path, as in gitaly_address.',
  ],
  usage: ['ADDRESS... [FLAGS]', '--through FILE [ADDRESS...] [FLAGS]'],
  words: { label: 'ADDRESS', most: MAX_CHECKED_ADDRESSES, completes: 'nothing' },
  flags: [
    {
      name: 'ca',
      value: FILE,
      text: 'the authorities to trust: a file or a directory (default: SSL_CERT_FILE, SSL_CERT_DIR, else the system)',
    },
    { name: 'client-cert', value: FILE, text: 'the client certificate to present (PEM)' },
    { name: 'client-key', value: FILE, text: 'its private key (PEM)' },
    {
      name: 'token-file',
      value: FILE,
      text: "a file that holds Gitaly's token; the token itself is never sent, and nothing to a server that is not verified",
    },
    {
      name: 'server-name',
      value: { label: 'NAME', completes: 'nothing' },
      text: 'the name that certificates must hold (default: the host of the address)',
    },
    {
      name: 'through',
      value: FILE,
      text: 'check every listener and every forward of this configuration of the proxy, on its machine',
    },
    {
      name: 'timeout',
      value: { label: 'DURATION', completes: 'nothing' },
      text: `how long a connection, a handshake or a call may take (default: ${DEFAULT_TIMEOUT})`,
    },
    { name: 'json', text: 'print the results as JSON' },
  ],
  examples: [
    {
      text: 'a Gitaly behind TLS, and what it says of itself',
      line: 'gitaly-tls-proxy check tls://localhost:9999 --ca ca.pem --token-file token',
    },
    { text: 'its plaintext port', line: 'gitaly-tls-proxy check tcp://127.0.0.1:8075' },
    {
      text: 'both sides of a proxy that runs on this machine',
      line: 'gitaly-tls-proxy check --through gitaly-tls-proxy.yaml --ca ca.pem',
    },
  ],
  read,
};

function read(given: Given): Command {
  const through = given.value('through');
  const addresses = given.words.map(readAddress);
  if (addresses.length === 0 && through === undefined)
    throw new UsageError(
      'check needs an ADDRESS, for example tls://gitaly-a.internal:9999, or --through FILE',
    );
  const [clientCert, clientKey] = [given.value('client-cert'), given.value('client-key')];
  if ((clientCert === undefined) !== (clientKey === undefined))
    throw new UsageError(
      clientKey === undefined ? '--client-cert needs --client-key' : '--client-key needs --client-cert',
    );
  const options: CheckOptions = {
    addresses,
    through,
    ca: given.value('ca'),
    clientPair:
      clientCert !== undefined && clientKey !== undefined ? { cert: clientCert, key: clientKey } : undefined,
    tokenFile: given.value('token-file'),
    serverName: readServerName(given.value('server-name')),
    timeoutMs: readTimeout(given.value('timeout') ?? DEFAULT_TIMEOUT),
    json: given.has('json'),
  };
  return { command: 'check', options };
}

function readAddress(word: string): { readonly written: string; readonly address: Address } {
  const result = parseAddress(word, 'forward');
  if (!result.ok) throw new UsageError(`${word}: ${result.message}`);
  if (isHttpScheme(result.value.scheme))
    throw new UsageError(
      `${word}: check is a client of Gitaly, which has tls://, dns+tls:, tcp://, dns: and unix: addresses`,
    );
  return { written: word, address: result.value };
}

function readServerName(name: string | undefined): string | undefined {
  const problem = name === undefined ? undefined : checkHost(name);
  if (problem !== undefined) throw new UsageError(`--server-name: ${problem}`);
  return name?.toLowerCase().replace(/\.$/u, '');
}

function readTimeout(text: string): number {
  const result = parseDuration(text);
  if (!result.ok) throw new UsageError(`--timeout ${text}: ${result.message}`);
  return result.value;
}
