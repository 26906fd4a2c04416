import { expect, test } from 'vitest';

import { takeEnvironment } from '../../src/process/environment.js';
import { childExecArgv, harmfulNodeOptions } from '../../src/process/node-options.js';

test.each([
  ['', []],
  ['--max-old-space-size=512 --disable-sigusr1', []],
  ['--max_old_space_size=512', []],
  ['--inspect', ['--inspect']],
  ['--max-old-space-size=512 --inspect-brk=0.0.0.0:1', ['--inspect-brk=0.0.0.0:1']],
  ['-r ./x.cjs', ['-r']],
  ['"--require" ./x.cjs', ['--require']],
  ['"--import=./a b.mjs"', ['--import=./a b.mjs']],
  ['--tls-min-v1.0  --insecure-http-parser', ['--tls-min-v1.0', '--insecure-http-parser']],
  ['--max-old-space-size=512" --tls-keylog=x', ['--max-old-space-size=512 --tls-keylog=x'].slice(1)],
])('of NODE_OPTIONS %j these change the program: %j', (value, harmful) => {
  expect(harmfulNodeOptions(value)).toEqual(harmful);
});

test('variables that must have no effect are removed, for this process and its children', () => {
  const env = {
    NODE_TLS_REJECT_UNAUTHORIZED: '0',
    NODE_EXTRA_CA_CERTS: '/x.pem',
    SSLKEYLOGFILE: '/x',
    NODE_USE_ENV_PROXY: '1',
    HOME: '/root',
  };
  const findings = takeEnvironment(env);
  expect(findings.map(({ variable, severity }) => [variable, severity])).toEqual([
    ['NODE_TLS_REJECT_UNAUTHORIZED', 'warn'],
    ['NODE_EXTRA_CA_CERTS', 'warn'],
    ['NODE_USE_ENV_PROXY', 'warn'],
    ['SSLKEYLOGFILE', 'warn'],
  ]);
  expect(env).toEqual({ HOME: '/root' });
});

test('a variable without effect is not reported', () => {
  const env = {
    NODE_ENV: 'production',
    NODE_OPTIONS: '--max-old-space-size=512',
    NODE_TLS_REJECT_UNAUTHORIZED: '1',
    UV_THREADPOOL_SIZE: '8',
    SSL_CERT_FILE: '/etc/ssl/cert.pem',
  };
  expect(takeEnvironment(env)).toEqual([]);
});

test('a worker gets the arguments of its parent, and no debugger by a signal where Node can do that', () => {
  const isKnown = process.allowedNodeEnvironmentFlags.has('--disable-sigusr1');
  expect(childExecArgv(['--title=x'])).toEqual(['--title=x', ...(isKnown ? ['--disable-sigusr1'] : [])]);
  expect(childExecArgv(['--disable-sigusr1'])).toEqual(['--disable-sigusr1']);
});
