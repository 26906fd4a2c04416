import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { promisify } from 'node:util';
import { Program } from './program.mjs';

const GIB = 1024 ** 3;
const CONNECTIONS = 4;
/** The first bytes of a backchannel, after which upstream need not send anything. */
const BACKCHANNEL = Buffer.from('backchannel\0\u0001\0\u0001\0\0\0\u0001\0\0\0\0', 'latin1');
const BLOCK = randomBytes(1024 * 1024);
/** A reader pauses after this number of bytes for this time: about 100 MiB/s, a tenth of the possible rate. */
const REST_BYTES = 4 * 1024 ** 2;
const REST_MS = 30;
/** The variation of V8 and of the kernel's accounting. Beyond it, a connection may use 1 MiB. */
const NOISE_KIB = 24 * 1024;

/**
 * Writes as fast as the peer reads, then ends.
 * @param {import('node:net').Socket} socket
 * @param {number} bytes
 * @returns {Promise<string>} SHA-256
 */
async function pour(socket, bytes) {
  const hash = createHash('sha256');
  for (let sent = 0; sent < bytes; sent += BLOCK.length) {
    hash.update(BLOCK);
    if (!socket.write(BLOCK)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

/**
 * Reads slowly to the end.
 * @param {import('node:net').Socket} socket
 * @param {number} skip number of first bytes that do not count
 * @returns {Promise<string>} SHA-256
 */
async function sip(socket, skip) {
  const hash = createHash('sha256');
  let [skipped, sinceRest] = [0, 0];
  for await (const chunk of /** @type {AsyncIterable<Buffer>} */ (socket)) {
    const part = chunk.subarray(Math.min(chunk.length, skip - skipped));
    skipped += chunk.length - part.length;
    hash.update(part);
    sinceRest += part.length;
    if (sinceRest < REST_BYTES) continue;
    sinceRest = 0;
    await pause(REST_MS);
  }
  return hash.digest('hex');
}

/**
 * Some connections that each carry 1 GiB, whose reader is slow.
 * @param {import('./run.mjs').Run} run
 * @param {'client' | 'upstream'} slow
 */
async function carrySlowly({ load, program, directory, workers }, slow) {
  await promisify(execFile)(load, ['certificate', '--out', directory]);
  const files = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
  /** @type {Promise<string>[]} */
  const ofUpstream = [];
  let total = 0;
  const backend = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    if (slow === 'upstream') {
      ofUpstream.push(sip(socket, BACKCHANNEL.length).finally(() => socket.end()));
      return;
    }
    ofUpstream.push(pour(socket, total));
    socket.resume();
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const address = backend.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
  const proxy = await Program.start(program, directory, files, address.port, { workers });
  const ca = await readFile(files.cert);
  /** @param {number} bytes */
  const carry = async (bytes) => {
    total = bytes;
    ofUpstream.length = 0;
    const ofClients = await Promise.all(
      Array.from({ length: CONNECTIONS }, async () => {
        const options = {
          port: proxy.port,
          host: '127.0.0.1',
          ca,
          ALPNProtocols: ['h2'],
          allowHalfOpen: true,
        };
        const client = connectTls(options);
        await once(client, 'secureConnect');
        client.write(BACKCHANNEL);
        if (slow === 'client') {
          const hash = await sip(client, 0);
          client.end();
          return hash;
        }
        client.resume();
        return pour(client, bytes);
      }),
    );
    const hashes = new Set([...ofClients, ...(await Promise.all(ofUpstream))]);
    await proxy.quiet();
    return hashes.size === 1;
  };
  // Memory that the process allocates once, and garbage that V8 has not collected yet, must not count for a connection.
  await carry(GIB / 4);
  const before = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  let peak = before.memoryKib;
  const sampler = setInterval(() => (peak = Math.max(peak, proxy.memoryKib)), 250);
  const begun = Date.now();
  const isWhole = await carry(GIB);
  const seconds = (Date.now() - begun) / 1000;
  clearInterval(sampler);
  backend.close();
  await proxy.quiet(before.descriptors);
  const failures = isWhole ? [] : ['the received bytes differ from the sent ones'];
  const descriptors = proxy.descriptors;
  const eachMib = (peak - before.memoryKib) / 1024 / CONNECTIONS;
  if (peak - before.memoryKib > NOISE_KIB + CONNECTIONS * 1024)
    failures.push(`memory grew by ${eachMib.toFixed(1)} MiB per connection`);
  console.log(
    `${CONNECTIONS} connections of 1 GiB, slow ${slow}, in ${seconds.toFixed(0)} s, all bytes equal\n` +
      `memory: ${(before.memoryKib / 1024).toFixed(1)} MiB before, ${(peak / 1024).toFixed(1)} at most, ` +
      `${(proxy.memoryKib / 1024).toFixed(1)} after; descriptors: ${before.descriptors} before, ${descriptors} after`,
  );
  const ended = await proxy.stop();
  if (ended !== 'exit code 0') failures.push(`the proxy ended with ${ended}`);
  return failures;
}

/** @param {import('./run.mjs').Run} run */
export const slowReaders = (run) => carrySlowly(run, 'client');

/** @param {import('./run.mjs').Run} run */
export const slowUpstream = (run) => carrySlowly(run, 'upstream');
