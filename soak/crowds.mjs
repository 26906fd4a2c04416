import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { conversation, startChild } from '../bench/children.mjs';
import { runClient } from './client.mjs';
import { Program } from './program.mjs';

const CROWD = 10_000;
const HONEST = ['--connections', '4', '--concurrency', '4', '--pause', '20ms'];

/**
 * Starts a proxy for a crowd, and reads its memory and descriptors before the crowd arrives.
 * @param {import('./run.mjs').Run} run
 */
async function startForCrowd({ load, program, directory, backendPort, workers }) {
  await promisify(execFile)(load, ['certificate', '--out', directory]);
  const files = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
  const more = { max_connections: CROWD + 1000, workers };
  const proxy = await Program.start(program, directory, files, backendPort, more);
  // Memory that the proxy allocates once must not count for the crowd.
  await runClient(load, 'rpc', HONEST, 2, proxy.port, files.cert);
  await proxy.quiet();
  return { proxy, ca: files.cert, descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
}

/**
 * Reports memory and descriptors after the crowd, and stops the proxy.
 * @param {Awaited<ReturnType<typeof startForCrowd>>} before
 * @param {string} what
 * @returns {Promise<string[]>}
 */
async function finish({ proxy, descriptors, memoryKib }, what) {
  await proxy.quiet(descriptors);
  const failures = [];
  const after = { descriptors: proxy.descriptors, memoryKib: proxy.memoryKib };
  const errors = await proxy.metric('internal_errors_total');
  if (errors > 0) failures.push(`internal_errors_total is ${errors}`);
  console.log(what);
  console.log(
    `memory: ${(memoryKib / 1024).toFixed(1)} MiB before, ${(after.memoryKib / 1024).toFixed(1)} after; ` +
      `descriptors: ${descriptors} before, ${after.descriptors} after`,
  );
  const ended = await proxy.stop();
  if (ended !== 'exit code 0') failures.push(`the proxy ended with ${ended}`);
  return failures;
}

/**
 * 10 000 idle TLS connections, and an honest client beside them; then all of it again: what the allocator has not given back to
 * the system after the first crowd must do for the second.
 * @param {import('./run.mjs').Run} run
 */
export async function idleConnections(run) {
  const before = await startForCrowd(run);
  const { proxy, ca } = before;
  const failures = [];
  const peaks = [];
  let what = '';
  for (const time of ['first', 'second']) {
    const child = await startChild(run.load, [
      'client',
      ...['--scenario', 'idle', '--target', `tls://127.0.0.1:${proxy.port}`, '--ca', ca],
      ...['--connections', String(CROWD), '--concurrency', '8', '--duration', '60s'],
    ]);
    const crowd = conversation(child, 'the crowd');
    await crowd.hear('ready');
    const done = crowd.hear('done');
    const begun = Date.now();
    crowd.say('go');
    await done;
    const seconds = (Date.now() - begun) / 1000;
    const open = await proxy.metric('connections_active');
    const peak = proxy.memoryKib;
    peaks.push(peak);
    const calls = await runClient(run.load, 'rpc', HONEST, 5, proxy.port, ca);
    crowd.say('end');
    await child.ended;
    await proxy.quiet(before.descriptors);
    if (open !== CROWD) failures.push(`${open} connections were open instead of ${CROWD}`);
    const eachKib = (peak - before.memoryKib) / CROWD;
    what +=
      `the ${time} ${open} idle connections: opened in ${seconds.toFixed(1)} s, ${eachKib.toFixed(1)} KiB each, ` +
      `${(peak / 1024).toFixed(1)} MiB in all; ${calls} calls of others\n`;
  }
  const [first = 0, second = 0] = peaks;
  if (second > first * 1.1) failures.push('the second crowd took more than the first');
  return [...failures, ...(await finish(before, what.trimEnd()))];
}

/**
 * 10 000 clients that connect and send nothing until they are closed, and an honest client beside them.
 * @param {import('./run.mjs').Run} run
 */
export async function silentConnections(run) {
  const before = await startForCrowd(run);
  const { proxy, ca } = before;
  const sockets = [];
  let peak = before.memoryKib;
  // The queue of the listening socket holds 511.
  for (let index = 0; index < CROWD; index += 200) {
    const batch = Array.from({ length: 200 }, () => connect(proxy.port, '127.0.0.1'));
    for (const socket of batch) socket.on('error', () => {});
    await Promise.all(batch.map((socket) => once(socket, 'connect')));
    sockets.push(...batch);
  }
  const closed = sockets
    .filter((socket) => !socket.destroyed)
    .map((socket) => once(socket.resume(), 'close'));
  peak = Math.max(peak, proxy.memoryKib);
  const calls = await runClient(run.load, 'rpc', HONEST, 5, proxy.port, ca);
  peak = Math.max(peak, proxy.memoryKib);
  await Promise.all(closed);
  await proxy.quiet();
  const counted = await proxy.metric('connections_closed_total', 'reason="handshake_failed"');
  const failures = counted === CROWD ? [] : [`${counted} were counted instead of ${CROWD}`];
  const eachKib = (peak - before.memoryKib) / CROWD;
  const what = `${CROWD} silent connections, all closed by timeouts.handshake, ${eachKib.toFixed(1)} KiB each; ${calls} calls of others`;
  return [...failures, ...(await finish(before, what))];
}

/**
 * Handshakes as fast as they go for 20 s, and an honest client beside them.
 * @param {import('./run.mjs').Run} run
 */
export async function handshakeFlood(run) {
  const before = await startForCrowd(run);
  const { proxy, ca } = before;
  const [handshakes, calls] = await Promise.all([
    runClient(
      run.load,
      'handshake',
      ['--concurrency', '64', '--max-operations', '20000'],
      20,
      proxy.port,
      ca,
    ),
    runClient(run.load, 'rpc', HONEST, 10, proxy.port, ca),
  ]);
  return finish(before, `${handshakes} handshakes in at most 20 s; ${calls} calls of others, none failed`);
}
