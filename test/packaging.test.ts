import { spawnSync } from 'node:child_process';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { DEFAULTS } from '../src/config/defaults.js';
import { parseDuration } from '../src/config/duration.js';
import { temporaryDirectory } from './support/temporary-directory.js';

const SERVICE = 'gitaly-tls-proxy.service';
const SOCKET = 'gitaly-tls-proxy.socket';
/** The value in docs/install.md. */
const EXPOSURE_MAX = 1.5;

const packaged = (name: string): string => fileURLToPath(new URL(`../packaging/${name}`, import.meta.url));

const analyze = (...args: string[]): { readonly status: number | null; readonly output: string } => {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
};

test('the sockets of the unit are what the README configures', async () => {
  const socket = await readFile(packaged(SOCKET), 'utf8');
  const readme = await readFile(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8');
  const addresses = [...socket.matchAll(/^ListenStream=(.*)$/gmu)].map(([, address]) => address ?? '');
  expect(addresses).toEqual(['0.0.0.0:9999', '127.0.0.1:9237']);
  expect(readme).toContain(`listen: tls://${addresses[0] ?? ''}\n`);
  expect(readme).toContain(`prometheus_listen_addr: ${addresses[1] ?? ''}\n`);
});

test('what stops the proxy waits for as long as it drains by default', async () => {
  const drain = parseDuration(DEFAULTS.gracefulRestartTimeout);
  if (!drain.ok) throw new Error(drain.message);
  const expected = `${drain.value / 1000 + 10}`;
  const read = (path: string) => readFile(fileURLToPath(new URL(`../${path}`, import.meta.url)), 'utf8');
  expect(await read(`packaging/${SERVICE}`)).toContain(`\nTimeoutStopSec=${expected}s\n`);
  expect(await read('docker-compose.yml')).toContain(` stop_grace_period: ${expected}s\n`);
  const upgrade = await read('docs/upgrade.md');
  expect(upgrade).toContain(`docker stop --time ${expected}`);
  expect(upgrade).toContain(`terminationGracePeriodSeconds: ${expected}`);
});

// Where systemd is not installed, there is nothing to ask.
describe.skipIf(analyze('--version').status !== 0)('systemd', () => {
  test.each([SERVICE, 'gitaly-tls-proxy@1.service'])(
    'finds nothing wrong with %s and its socket',
    async (name) => {
      const directory = await temporaryDirectory();
      const text = await readFile(packaged(SERVICE), 'utf8');
      // It looks whether a program is there.
      const service = text.replaceAll('/usr/local/bin/gitaly-tls-proxy', process.execPath);
      await writeFile(join(directory, name.replace('@1', '@')), service);
      await writeFile(join(directory, SERVICE), service);
      await copyFile(packaged(SOCKET), join(directory, SOCKET));
      const { status, output } = analyze('verify', join(directory, name), join(directory, SOCKET));
      expect(output.split('\n').filter((line) => line.includes('gitaly-tls-proxy'))).toEqual([]);
      expect(status).toBe(0);
    },
  );

  test('finds the service hardly exposed', () => {
    const { output } = analyze('security', '--offline=true', '--no-pager', packaged(SERVICE));
    const exposure = /Overall exposure level for .*: ([\d.]+)/u.exec(output)?.[1];
    expect(Number(exposure)).toBeLessThanOrEqual(EXPOSURE_MAX);
  });
});
