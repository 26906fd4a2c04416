import { once, setMaxListeners } from 'node:events';
import { connect, constants } from 'node:http2';
import { setTimeout as pause } from 'node:timers/promises';

/** Rails sends one metadata field for each feature flag of Gitaly that is on. */
const FLAGS = 300;
/** Calls of one connection whose deadline expires at the same moment. */
const DEADLINES = 1500;
const DEADLINE_MS = 1000;

/**
 * Legitimate traffic that looks like an attack: a call with hundreds of metadata fields, and hundreds of calls whose deadline
 * expires at once, on a connection that carries another call the whole time.
 * @param {number} port
 * @param {string | Buffer} ca
 * @returns {Promise<void>} rejects if anything of it was lost
 */
export async function innocentClient(port, ca) {
  const session = connect(`https://127.0.0.1:${port}`, { ca, maxSessionMemory: 100 });
  setMaxListeners(0, session);
  try {
    const failed = new Promise((_, reject) => {
      session.once('error', reject);
      session.once('close', () => reject(new Error('the connection of an innocent client was closed')));
    });
    failed.catch(() => {});
    await Promise.race([failed, talk(session)]);
  } finally {
    session.destroy();
  }
}

/** @param {import('node:http2').ClientHttp2Session} session */
async function talk(session) {
  await once(session, 'remoteSettings');
  const whole = call(session, 'Echo');
  await echo(whole);

  /** @type {Record<string, string>} */
  const flags = {};
  for (let index = 0; index < FLAGS; index += 1) flags[`gitaly-feature-flag-${index}`] = 'true';
  const flagged = call(session, 'Unary', flags);
  flagged.resume().end(Buffer.alloc(5));
  const status = await statusOf(flagged);
  if (status !== '0') throw new Error(`a call with ${FLAGS} fields ended with ${status}`);

  const expiring = Array.from({ length: DEADLINES }, () => call(session, 'Echo'));
  await pause(DEADLINE_MS);
  await Promise.all(
    expiring.map((stream) => {
      stream.close(constants.NGHTTP2_CANCEL);
      return once(stream, 'close');
    }),
  );
  await echo(whole);
  whole.end();
  const last = await statusOf(whole);
  if (last !== '0') throw new Error(`a call beside others that expired ended with ${last}`);
}

/**
 * @param {import('node:http2').ClientHttp2Session} session
 * @param {string} method
 * @param {Record<string, string>} [metadata]
 */
function call(session, method, metadata = {}) {
  const stream = session.request({
    ':method': 'POST',
    ':path': `/bench.Load/${method}`,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...metadata,
  });
  stream.on('error', () => {});
  return stream;
}

/**
 * Sends an empty message and waits for the result.
 * @param {import('node:http2').ClientHttp2Stream} stream
 */
async function echo(stream) {
  stream.write(Buffer.alloc(5));
  await once(stream, 'data');
}

/**
 * The gRPC status in the trailers.
 * @param {import('node:http2').ClientHttp2Stream} stream
 * @returns {Promise<string>}
 */
function statusOf(stream) {
  return new Promise((resolve, reject) => {
    stream.once('trailers', (/** @type {Record<string, unknown>} */ trailers) => {
      resolve(String(trailers['grpc-status']));
    });
    stream.once('close', () => reject(new Error('a call ended without trailers')));
  });
}
