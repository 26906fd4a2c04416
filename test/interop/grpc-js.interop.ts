import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';

import { firstOutput } from '../support/first-output.js';
import { interopCases } from '../support/interop/cases.js';
import { failuresOfGrpcJs, PROTOCOLS, type Protocol } from '../support/interop/client.js';
import { startInteropServer } from '../support/interop/server.js';
import { startWay, type Way, WAYS } from '../support/interop/way.js';

const run = promisify(execFile);

/** By grpc-js; grpc-go's server does not give the name that `pick_first_unary` asks for. */
const OF_GRPC_JS = Object.keys(interopCases).filter((name) => name !== 'pick_first_unary');

/** Of grpc-go's client: the test service of grpc-js reports no load. */
const NOT_OF_GRPC_GO = ['orca_per_rpc', 'orca_oob'];

let directory: string;
let program: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gitaly-tls-proxy-interop-'));
  program = join(directory, 'grpcinterop');
  await run('go', ['build', '-o', program, './grpcinterop'], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  });
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** Starts grpc-go's server, which ends with the test; what to forward to. */
async function startGrpcGo(): Promise<string> {
  const server = spawn(program, ['-serve', '127.0.0.1:0'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(server, 'exit');
  onTestFinished(async () => {
    server.stdin.end();
    await exited;
  });
  const { address } = z.object({ address: z.string() }).parse(JSON.parse(await firstOutput(server.stdout)));
  return `tcp://${address}`;
}

/** Runs cases by grpc-go's client, whichever fail: what failed, and what the client said. */
async function failuresOfGrpcGo(
  { server, ca }: Way,
  protocol: Protocol,
  cases: readonly string[],
): Promise<string[]> {
  const trust = ca ? ['-ca', ca.path, '-server-name', 'localhost'] : [];
  const failures: string[] = [];
  for (const name of cases) {
    const args = ['-case', name, '-protocol', protocol, '-address', server.href, ...trust];
    await run(program, args).catch((error: unknown) => failures.push(`${name}: ${String(error)}`));
  }
  return failures;
}

describe.each(PROTOCOLS)('%s', (protocol) => {
  describe.each(WAYS)('%s', (way) => {
    test('every case of grpc-js passes against grpc-go', async () => {
      const to = await startWay(way, await startGrpcGo());
      expect(await failuresOfGrpcJs(to.server, protocol, OF_GRPC_JS, to.ca?.pem)).toEqual([]);
      await to.end(protocol, OF_GRPC_JS.length);
    });

    test('every case of grpc-go passes against grpc-js', async () => {
      const { stdout } = await run(program, ['-list']);
      const all = z.array(z.string()).parse(JSON.parse(stdout));
      const cases = all.filter((name) => !NOT_OF_GRPC_GO.includes(name));
      expect(cases).toHaveLength(all.length - NOT_OF_GRPC_GO.length);
      const to = await startWay(way, await startInteropServer());
      expect(await failuresOfGrpcGo(to, protocol, cases)).toEqual([]);
      await to.end(protocol);
    });
  });
});
