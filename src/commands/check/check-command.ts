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
  summary: 'connect as a client of Gitaly does, and report each step',
  description: [
    'Connects to each ADDRESS as a client of Gitaly does; it may belong to Gitaly or to a proxy in front of it. Resolves ' +
      'the name, connects, makes a TLS handshake, checks ALPN, the certificates and their names, and makes a health call ' +
      'over HTTP/2, as Rails does, and over the backchannel, as Workhorse and gitlab-shell do. With the token it also ' +
      'reads the version and the storages. All addresses of a name are checked, each separately.',
    'Each step is Passed, Failed with the cause and a fix, or Skipped with the reason. Exits with 0 if no step has ' +
      'failed, otherwise with 1.',
    'ADDRESS is tls://host:port, dns+tls:host:port, tcp://host:port, dns:host:port or unix:/path, as in gitaly_address.',
  ],
  usage: ['ADDRESS... [FLAGS]', '--through FILE [ADDRESS...] [FLAGS]'],
  words: { label: 'ADDRESS', most: MAX_CHECKED_ADDRESSES, completes: 'nothing' },
  flags: [
    {
      name: 'ca',
      value: FILE,
      text: 'the CA certificates to trust: a file or a directory (default: SSL_CERT_FILE and SSL_CERT_DIR, or the system)',
    },
    { name: 'client-cert', value: FILE, text: 'the client certificate to present (PEM)' },
    { name: 'client-key', value: FILE, text: 'its private key (PEM)' },
    {
      name: 'token-file',
      value: FILE,
      text: "a file that contains Gitaly's token; only verified servers receive a signature made with it, never the token",
    },
    {
      name: 'server-name',
      value: { label: 'NAME', completes: 'nothing' },
      text: 'the name that certificates must contain (default: the host of ADDRESS)',
    },
    {
      name: 'through',
      value: FILE,
      text: 'check every listener and every forward of this configuration; run it on the machine of the proxy',
    },
    {
      name: 'timeout',
      value: { label: 'DURATION', completes: 'nothing' },
      text: `the timeout of a connection, a handshake or a call (default: ${DEFAULT_TIMEOUT})`,
    },
    { name: 'json', text: 'print the results as JSON' },
  ],
  examples: [
    {
      text: 'Gitaly behind TLS, with its version and storages',
      line: 'gitaly-tls-proxy check tls://localhost:9999 --ca ca.pem --token-file token',
    },
    { text: "Gitaly's plaintext port", line: 'gitaly-tls-proxy check tcp://127.0.0.1:8075' },
    {
      text: 'all listeners and forwards of the proxy on this machine',
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
      `${word}: check supports the addresses of Gitaly: tls://, dns+tls:, tcp://, dns: and unix:`,
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
