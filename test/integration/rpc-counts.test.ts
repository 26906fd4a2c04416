import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { expect, onTestFinished, test } from 'vitest';
import * as z from 'zod';

import type { Scrape } from '../support/metrics.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { isInstalled } from '../support/shell.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const INTEROP = fileURLToPath(new URL('../interop', import.meta.url));
const CALLS_PER_PROTOCOL = 5000;

/** What one end counted of one method (test/interop/README.md). */
const method = z.object({
  service: z.string(),
  method: z.string(),
  started: z.number(),
  sent: z.number(),
  received: z.number(),
  codes: z.record(z.string(), z.number()),
});
const end = z.object({ made: z.array(method), served: z.array(method) });
const report = z.record(z.string(), end);

/** Series and their values; those of the value 0 are left out. */
type Series = Record<string, number>;

async function buildLoad(): Promise<string> {
  const program = join(await temporaryDirectory(), 'loadmix');
  const build = spawn('go', ['build', '-o', program, './loadmix'], { cwd: INTEROP, stdio: 'inherit' });
  expect(await once(build, 'close')).toEqual([0, null]);
  return program;
}

/** What go-grpc-prometheus would have counted, by what the client says of the calls that it made and served. */
function expected(ends: z.output<typeof report>): Series {
  const series: Series = {};
  const add = (name: string, value: number): void => {
    if (value > 0) series[name] = (series[name] ?? 0) + value;
  };
  for (const { made, served } of Object.values(ends)) {
    for (const one of [
      ...made.map((counts) => ({ counts, requests: counts.sent, answers: counts.received })),
      ...served.map((counts) => ({ counts, requests: counts.received, answers: counts.sent })),
    ]) {
      const path = `${one.counts.service}/${one.counts.method}`;
      add(`started ${path}`, one.counts.started);
      add(`msg_received ${path}`, one.requests);
      add(`msg_sent ${path}`, one.answers);
      for (const [code, count] of Object.entries(one.counts.codes)) add(`handled ${path} ${code}`, count);
    }
  }
  return series;
}

function counted(scrape: Scrape): Series {
  const series: Series = {};
  for (const { name, labels, value } of scrape.samples) {
    const [, kind] = /^grpc_server_(started|handled|msg_received|msg_sent)_total$/.exec(name) ?? [];
    if (kind === undefined || value === 0) continue;
    const code = labels['grpc_code'] === undefined ? '' : ` ${labels['grpc_code']}`;
    series[`${kind} ${labels['grpc_service'] ?? ''}/${labels['grpc_method'] ?? ''}${code}`] = value;
  }
  return series;
}

test.skipIf(!isInstalled('go'))(
  '10 000 mixed calls in both protocols are counted number for number as client and server count them',
  async () => {
    const program = await buildLoad();
    const server = spawn(program, ['-serve', '127.0.0.1:0'], { stdio: ['pipe', 'pipe', 'inherit'] });
    onTestFinished(() => void server.kill());
    const lines = createInterface({ input: server.stdout });
    const [first] = (await once(lines, 'line')) as [string];
    const { address } = z.object({ address: z.string() }).parse(JSON.parse(first));
    const { ca, proxy } = await startSetup({ listener: { forward: `tcp://${address}` } });
    const client = spawn(
      program,
      [
        '-address',
        `tls://127.0.0.1:${(await proxy.address(TLS_LISTENER)).port}`,
        '-ca',
        ca.caPath,
        '-server-name',
        'localhost',
        '-calls',
        String(CALLS_PER_PROTOCOL),
        '-seed',
        '1',
        // By a shorter one a busy machine delays a call so much that nobody but its client can tell why it was given up.
        '-deadline',
        '1s',
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const closed = once(client, 'close');
    const output = await text(client.stdout);
    expect(await closed).toEqual([0, null]);
    const ends = report.parse(JSON.parse(output));
    // It ends when all of its calls have.
    server.stdin.end();
    await once(server, 'close');
    const scrape = await proxy.scrapeUntil((seen) => seen.value('gitaly_tls_proxy_rpcs_in_flight') === 0);
    const wanted = expected(ends);
    expect(counted(scrape)).toEqual(wanted);
    expect(Object.keys(wanted).length).toBeGreaterThan(200);
    expect(scrape.value('grpc_server_started_total')).toBeGreaterThanOrEqual(2 * CALLS_PER_PROTOCOL);
    expect(scrape.value('gitaly_tls_proxy_inspector_lost_total')).toBe(0);
    await proxy.endsWithNothingLeaked();
  },
  240_000,
);
