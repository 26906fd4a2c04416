import type { Place } from './inspect/inspection-report.js';
import { isTlsScheme, parseAddress } from '../../config/address.js';
import type { CommandEntry } from '../command.js';
import { MAX_INSPECTED_PLACES } from '../../limits.js';
import { UsageError } from '../parse-flags.js';

export const CERTIFICATES_INSPECT: CommandEntry = {
  name: 'certificates inspect',
  summary: 'show certificates, and report what is wrong with them for Gitaly',
  description: [
    'Shows PEM certificates and keys, or the certificates that a server presents, and reports each problem with its fix: ' +
      'names, order of the chain, whether key and certificate match, validity, usages, strength, permissions of the key ' +
      'file.',
    'FILE contains certificates, a key or both; in a directory, all such files are read. ADDRESS is tls://host:port or ' +
      'https://host; only a TLS handshake is made with it. All arguments are checked together: if one of them is a file ' +
      'of CA certificates, these must have issued the others, and each key must match one of the certificates. Exits with ' +
      '1 if there is an error; warnings do not change the exit code.',
  ],
  usage: ['FILE|ADDRESS... [--json]'],
  words: { label: 'FILE|ADDRESS', most: MAX_INSPECTED_PLACES, completes: 'file' },
  flags: [{ name: 'json', text: 'print the report as JSON: {"errors":N,"warnings":N,"inspected":[...]}' }],
  examples: [
    { text: 'a certificate and its key', line: 'gitaly-tls-proxy certificates inspect cert.pem key.pem' },
    {
      text: 'the certificates of a server, for clients that trust this CA',
      line: 'gitaly-tls-proxy certificates inspect tls://localhost:9999 ca.pem',
    },
    {
      text: 'a report for a program',
      line: 'gitaly-tls-proxy certificates inspect --json cert.pem > report.json',
    },
  ],
  read: (given) => {
    if (given.words.length === 0)
      throw new UsageError(
        'certificates inspect needs a file or an address: certificates inspect cert.pem key.pem, or tls://gitaly.internal:9999',
      );
    return { command: 'certificates inspect', places: given.words.map(readPlace), json: given.has('json') };
  },
};

function readPlace(word: string): Place {
  if (!/^([a-z][a-z0-9+.-]*:\/\/|(unix|dns):)/iu.test(word)) return { kind: 'path', path: word };
  const address = parseAddress(word, 'forward');
  if (!address.ok) throw new UsageError(`${word}: ${address.message}`);
  if (address.value.scheme === 'unix' || !isTlsScheme(address.value.scheme)) {
    throw new UsageError(`${word}: this address does not use TLS; give a tls:// or https:// address`);
  }
  return { kind: 'address', address: address.value };
}
