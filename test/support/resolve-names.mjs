// Loaded into the program with `node --import`: resolves names to addresses that the test chooses, in its order, since
// the machine owns /etc/hosts. RESOLVE_NAMES: `{"gitaly.test":["::1","127.0.0.1"],"no.test":[]}`; a name without
// addresses does not exist.
import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import { isIP } from 'node:net';

/** @typedef {(error: Error | null, addresses?: readonly dns.LookupAddress[]) => void} Done */
/** @typedef {(name: string, options: dns.LookupAllOptions, done: Done) => void} Lookup the form that the program calls */

/** @type {unknown} */
const parsed = JSON.parse(process.env['RESOLVE_NAMES'] ?? '{}');
const names = /** @type {Record<string, readonly string[]>} */ (parsed);
const original = /** @type {Lookup} */ (dns.lookup);

/** @type {Lookup} */
function lookup(name, options, done) {
  const addresses = names[name];
  if (addresses === undefined) {
    original(name, options, done);
  } else if (addresses.length === 0) {
    const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
    setImmediate(done, error);
  } else {
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    setImmediate(done, null, found);
  }
}

Object.assign(dns, { lookup });
syncBuiltinESMExports();
