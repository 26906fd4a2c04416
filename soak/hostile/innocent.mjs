import { once, setMaxListeners } from 'node:events';
import { connect, constants } from 'node:http2';
import { setTimeout as pause } from 'node:timers/promises';

/** Rails sends one metadata field for each feature flag of Gitaly that is on. */
const FLAGS = 300;
/** Calls of one connection whose deadline expires at the same moment. */
const DEADLINES = 1500;
const DEADLINE_MS = 1000;

/** The polite load verifies the certificate, which changes all the time; these clients are here for other faults. */
const TRUSTING = { rejectUnauthorized: false };

/**
 * Legitimate traffic that looks like an attack: a call with hundreds of metadata fields, and hundreds of calls whose deadline
 * expires at once, on a connection that carries another call the whole time.
 * @param {number} port
 * @returns {Promise<void>} rejects if anything of it was lost
 */
export async function innocentClient(port) {
  const session = connect(`https://127.0.0.1:${port}`, { ...TRUSTING, maxSessionMemory: 100 });
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

/** Between two requests of a client of the gate. */
const REQUEST_PAUSE_MS = 50;

/**
 * A Gitaly node that asks the gate again and again, on connections that `max_connection_age` ends. No request may be lost; one
 * that GOAWAY overtakes within the client is made again on the next connection.
 * @param {number} port
 * @param {{ cert: Buffer, key: Buffer }} certificate of the client
 * @param {() => boolean} isOver
 * @returns {Promise<{ requests: number, connections: number }>} rejects if a request was not answered
 */
export async function gateClient(port, certificate, isOver) {
  const counts = { requests: 0, connections: 0 };
  while (!isOver()) {
    const session = connect(`https://127.0.0.1:${port}`, { ...TRUSTING, ...certificate });
    try {
      await once(session, 'connect');
      counts.connections += 1;
      session.on('error', () => {});
      const goAway = new AbortController();
      const isLeaving = () => goAway.signal.aborted;
      session.once('goaway', () => goAway.abort());
      while (!isOver() && !isLeaving() && !session.closed) {
        if (session.destroyed) throw new Error('the gate closed a connection without GOAWAY');
        const status = await request(session);
        // Node emits the event after the error.
        if (status === 'overtaken') await pause(REQUEST_PAUSE_MS);
        if (status === 'overtaken' && isLeaving()) break;
        if (status !== 200) throw new Error(`the gate answered a request with ${status ?? 'nothing'}`);
        counts.requests += 1;
        await pause(REQUEST_PAUSE_MS);
      }
      session.close();
    } finally {
      if (!session.closed) session.destroy();
    }
  }
  return counts;
}

/**
 * @param {import('node:http2').ClientHttp2Session} session
 * @returns {Promise<number | 'overtaken' | undefined>} the status; `overtaken`: the request was not processed
 */
function request(session) {
  const stream = session.request({ ':path': '/api/v4/internal/check' });
  stream.resume();
  return new Promise((resolve, reject) => {
    /** @type {number | undefined} */
    let status;
    stream.once('response', (headers) => (status = headers[':status']));
    stream.once('error', (/** @type {Error} */ error) => {
      if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) resolve('overtaken');
      else reject(error);
    });
    stream.once('close', () => resolve(status));
  });
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
