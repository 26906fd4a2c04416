import type { Place } from './inspect/inspection-report.js';
import { isTlsScheme, parseAddress } from '../../config/address.js';
import type { CommandEntry } from '../command.js';
import { MAX_INSPECTED_PLACES } from '../../limits.js';
import { UsageError } from '../parse-flags.js';

export const CERTIFICATES_INSPECT: CommandEntry = {
  name: 'certificates inspect',
  summary: 'what certificates say, and what is wrong with them for Gitaly',
  description: [
    'Shows what certificates and keys in PEM say, or what a server presents, and each thing that is wrong for this job in ' +
      'a sentence with its cure: names, order of the chain, whether key and certificate belong together, validity, usages, ' +
      'strength, who may read the key.',
    'FILE holds certificates, a key or both; a directory means the files with either in it. ADDRESS is tls://host:port or ' +
      'https://host; what it presents is looked at, and nothing is sent but a handshake. All that are given are looked at ' +
      'together: with a file of authorities among them the others must come from these, and a key must belong to one of ' +
      'the certificates. Exits with 1 if there is an error; warnings change nothing.',
  ],
  usage: ['FILE|ADDRESS... [--json]'],
  words: { label: 'FILE|ADDRESS', most: MAX_INSPECTED_PLACES, completes: 'file' },
  flags: [{ name: 'json', text: 'for programs: {"errors":N,"warnings":N,"inspected":[...]}' }],
  examples: [
    { text: 'a pair', line: 'gitaly-tls-proxy certificates inspect cert.pem key.pem' },
    {
      text: 'what a server presents, for clients that trust this authority',
      line: 'gitaly-tls-proxy certificates inspect tls://localhost:9999 ca.pem',
    },
    {
      text: 'for a program',
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
    throw new UsageError(`${word}: no certificate is presented there; give a tls:// or https:// address`);
  }
  return { kind: 'address', address: address.value };
}
