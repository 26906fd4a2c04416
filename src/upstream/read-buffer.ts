import { READ_BUFFER_BYTES, SHARED_READ_BUFFER_BYTES } from '../limits.js';

const shared = Buffer.allocUnsafeSlow(SHARED_READ_BUFFER_BYTES);

/** The kind of socket that the bytes of an upstream are written to. */
export type SinkKind = 'tls' | 'plain';

/**
 * The buffer that an upstream socket reads into.
 *
 * A TLS sink that is not writing has encrypted a view into memory of its own when `write` returns (TLSWrap::DoWrite in
 * Node's crypto_tls.cc, which copies even what OpenSSL does not take), and the relay writes to no other. All such
 * connections read into one buffer, so that an idle one holds none. A plain socket keeps the view until the kernel
 * has it all: each has a buffer of its own.
 */
export function readBufferFor(sink: SinkKind): Buffer {
  return sink === 'tls' ? shared : Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
}
