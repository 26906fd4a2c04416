// Loaded into the program with `node --import`: gives names addresses of the test's choice, in its order, where
// /etc/hosts belongs to the machine. RESOLVE_NAMES: `{"gitaly.test":["::1","127.0.0.1"],"no.test":[]}`; a name
// without addresses is one that does not exist.
import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import { isIP } from 'node:net';

const names = JSON.parse(process.env.RESOLVE_NAMES ?? '{}');
const { lookup } = dns;

dns.lookup = (name, options, done) => {
  const addresses = names[name];
  if (addresses === undefined) {
    lookup(name, options, done);
  } else if (addresses.length === 0) {
    const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
    setImmediate(done, error);
  } else {
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    setImmediate(done, null, found);
  }
};
syncBuiltinESMExports();
