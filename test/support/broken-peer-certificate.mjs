// Loaded into the program with `node --import`: Node fails to read the peer certificate of every TLS connection.
import { TLSSocket } from 'node:tls';

TLSSocket.prototype.getPeerX509Certificate = function brokenPeerCertificate() {
  throw new Error('an injected fault in getPeerX509Certificate');
};
