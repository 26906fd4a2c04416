import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';

import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const run = promisify(execFile);
const CLIENTS = fileURLToPath(new URL('../../soak/refusals', import.meta.url));
const KINDS = ['Unary', 'Down', 'Up', 'Chat', 'Hold'];
const REFUSAL =
  'gitaly-tls-proxy: a client without an identity may not call {rpc} (mutator): rule "allowed" does not allow it; ' +
  'fix: add the RPC to `allow` of this rule, or use an identity that may call it';
const CALLS = 200;
const CONNECTIONS_OF_CLIENT = 4;

const portsSchema = z.object({ ports: z.object({ hashicorp: z.number() }) });
const handledSchema = z.object({ result: z.record(z.string(), z.number()) });
const madeSchema = z.object({ result: z.object({ whole: z.number(), connections: z.number() }) });

/** Starts the server, which counts the calls that its handlers see. */
async function startServer(program: string): Promise<{
  ports: z.infer<typeof portsSchema>['ports'];
  end: () => Promise<Readonly<Record<string, number>>>;
}> {
  const server = spawn(program, ['serve'], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void server.kill());
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => JSON.parse(z.string().parse((await lines.next()).value));
  const { ports } = portsSchema.parse(await next());
  return {
    ports,
    async end() {
      const exited = once(server, 'exit');
      server.stdin.end();
      const { result } = handledSchema.parse(await next());
      await exited;
      return result;
    },
  };
}

async function hasGrpcCore(): Promise<boolean> {
  return run('python3', ['-c', 'import grpc']).then(
    () => true,
    () => false,
  );
}

test('refused calls of each gRPC library reach no handler, and disturb neither other calls nor connections', async () => {
  const directory = await temporaryDirectory();
  const program = join(directory, 'refusals');
  await run('go', ['build', '-o', program, './refusals'], {
    cwd: fileURLToPath(new URL('.', import.meta.url)),
  });
  const server = await startServer(program);
  const rpcsPath = join(directory, 'rpcs.tsv');
  const rpcs = KINDS.flatMap((kind) => [
    `interop.Refused/${kind}\tunary\tmutator`,
    `interop.Allowed/${kind}\tunary\taccessor`,
  ]);
  await writeFile(rpcsPath, ['method\ttype\toperation', ...rpcs].join('\n'));
  const { proxy, ca } = await startSetup({
    listener: {
      forward: `tcp://127.0.0.1:${server.ports.hashicorp}`,
      policy: { rules: [{ name: 'allowed', identities: ['*'], allow: ['interop.Allowed/*'] }] },
    },
    more: { rpcs_path: rpcsPath },
  });
  const { host } = await proxy.address(TLS_LISTENER);
  const clients = [
    [program, 'call'],
    [program, 'call', '--library', 'hashicorp'],
    [process.execPath, join(CLIENTS, 'grpc-js.mjs')],
    ...((await hasGrpcCore()) ? [['python3', join(CLIENTS, 'grpc_core.py')]] : []),
  ];
  const made = await Promise.all(
    clients.map(async ([command = '', ...args]) => {
      const to = ['--address', host, '--ca', ca.caPath, '--refusal', REFUSAL];
      const { stdout } = await run(command, [...args, ...to, '--calls', String(CALLS), '--uploads', '10']);
      return madeSchema.parse(JSON.parse(stdout)).result;
    }),
  );
  const scrape = await proxy.scrape();
  expect(scrape.value('gitaly_tls_proxy_connections_total')).toBe(CONNECTIONS_OF_CLIENT * clients.length);
  expect(scrape.value('gitaly_tls_proxy_inspector_lost_total')).toBe(0);
  await proxy.endsWithNothingLeaked();
  const handled = Object.entries(await server.end());
  expect(handled.filter(([path]) => path.startsWith('/interop.Refused/'))).toEqual([]);
  const served = handled
    .filter(([path]) => !path.endsWith('/Hold'))
    .reduce((sum, [, calls]) => sum + calls, 0);
  expect(served).toBe(made.reduce((sum, { whole }) => sum + whole, 0));
});
