import { describe, expect, test } from 'vitest';

import { isForeignOrigin, KnownHosts } from '../../src/admin/known-hosts.js';

const known = new KnownHosts(['', 'Node-A', 'gitaly-a.internal.', '*.gitlab.svc', '::']);

describe('a Host is answered', () => {
  test.each([
    ...[undefined, '', 'localhost', 'LOCALHOST:9237', 'localhost.', 'localhost:'],
    ...['127.0.0.1', '10.1.2.3:9237', '127.1', '0x7f.1', '2130706433'],
    ...['[::1]', '[::1]:9237', '[::ffff:10.0.0.1]', '[fe80::1%25eth0]:1', '[fe80::1%eth0]'],
    ...['node-a', 'NODE-A:80', 'gitaly-a.internal', 'gitaly-a.internal.:9237', 'proxy.gitlab.svc:9237'],
  ])('%s', (host) => expect(known.has(host)).toBe(true));
});

describe('a Host that a web page can choose is not', () => {
  test.each([
    ...[
      'evil.example',
      'evil.example:9237',
      '127.0.0.1.evil.example',
      'localhost.evil.example',
      'evil-localhost',
    ],
    ...[
      'node-a.evil.example',
      'gitaly-a',
      'gitlab.svc',
      '.gitlab.svc',
      'a.b.gitlab.svc',
      'a.gitlab.svc.evil.example',
    ],
    ...[
      '::1',
      '[evil.example]',
      '[::1',
      '[::1].evil.example',
      'localhost@evil.example',
      'evil.example#@localhost',
    ],
    ...['localhost, evil.example', 'localhost:x', '1.2.3.4.5', '0xg', '1e1.example', '[::1]x'],
  ])('%s', (host) => expect(known.has(host)).toBe(false));
});

test.each([
  [undefined, 'a', false],
  ['http://127.0.0.1:9237', '127.0.0.1:9237', false],
  ['https://Metrics.internal', 'metrics.internal', false],
  ['http://127.0.0.1:3000', '127.0.0.1:9237', true],
  ['http://evil.example', '127.0.0.1:9237', true],
  ['null', '127.0.0.1:9237', true],
  ['', '127.0.0.1:9237', true],
  ['http://evil.example@127.0.0.1:9237', '127.0.0.1:9237', true],
  ['file://127.0.0.1:9237', '127.0.0.1:9237', true],
])('Origin %s of a request to %s is foreign: %s', (origin, host, foreign) => {
  expect(isForeignOrigin(origin, host)).toBe(foreign);
});
