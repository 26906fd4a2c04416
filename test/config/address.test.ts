import { describe, expect, it } from 'vitest';
import { parseAddress, type AddressSide } from '../../src/config/address.js';

describe('parseAddress', () => {
  it.each<[AddressSide, string, object]>([
    [
      'listen',
      'tls://0.0.0.0:9999',
      { scheme: 'tls', host: '0.0.0.0', port: 9999, url: 'tls://0.0.0.0:9999' },
    ],
    ['listen', 'tcp://127.0.0.1:0', { scheme: 'tcp', host: '127.0.0.1', port: 0, url: 'tcp://127.0.0.1:0' }],
    ['listen', 'tls://[::1]:9999', { scheme: 'tls', host: '::1', port: 9999, url: 'tls://[::1]:9999' }],
    ['listen', 'tls://[0:0::1]:9999', { scheme: 'tls', host: '::1', port: 9999, url: 'tls://[::1]:9999' }],
    [
      'listen',
      'tcp://[fe80::1%eth0]:1',
      { scheme: 'tcp', host: 'fe80::1%eth0', port: 1, url: 'tcp://[fe80::1%eth0]:1' },
    ],
    ['listen', 'unix:/run/a.socket', { scheme: 'unix', path: '/run/a.socket', url: 'unix:/run/a.socket' }],
    ['listen', 'unix:///run//a.socket', { scheme: 'unix', path: '/run/a.socket', url: 'unix:/run/a.socket' }],
    [
      'forward',
      'TLS://Gitaly-A.Internal:9999',
      { scheme: 'tls', host: 'gitaly-a.internal', port: 9999, url: 'tls://gitaly-a.internal:9999' },
    ],
    [
      'forward',
      'tcp://gitaly_a:8075',
      { scheme: 'tcp', host: 'gitaly_a', port: 8075, url: 'tcp://gitaly_a:8075' },
    ],
    ['forward', 'dns:gitaly:8075', { scheme: 'tcp', host: 'gitaly', port: 8075, url: 'tcp://gitaly:8075' }],
    [
      'forward',
      'dns:///gitaly.internal.:8075',
      { scheme: 'tcp', host: 'gitaly.internal.', port: 8075, url: 'tcp://gitaly.internal.:8075' },
    ],
    [
      'forward',
      'dns+tls:gitaly:9999',
      { scheme: 'tls', host: 'gitaly', port: 9999, url: 'tls://gitaly:9999' },
    ],
    ['forward', 'dns+tls:///[::1]:9999', { scheme: 'tls', host: '::1', port: 9999, url: 'tls://[::1]:9999' }],
    [
      'listen',
      'https://0.0.0.0:8443',
      { scheme: 'https', host: '0.0.0.0', port: 8443, url: 'https://0.0.0.0:8443' },
    ],
    [
      'listen',
      'http://127.0.0.1:80',
      { scheme: 'http', host: '127.0.0.1', port: 80, url: 'http://127.0.0.1:80' },
    ],
    [
      'forward',
      'https://GitLab.example.com/',
      { scheme: 'https', host: 'gitlab.example.com', port: 443, url: 'https://gitlab.example.com' },
    ],
    ['forward', 'http://[::1]:80', { scheme: 'http', host: '::1', port: 80, url: 'http://[::1]' }],
    [
      'forward',
      'http://127.0.0.1:8181',
      { scheme: 'http', host: '127.0.0.1', port: 8181, url: 'http://127.0.0.1:8181' },
    ],
    ['forward', 'dns:[::1]:8075', { scheme: 'tcp', host: '::1', port: 8075, url: 'tcp://[::1]:8075' }],
  ])('reads for %s: %s', (side, text, address) => {
    expect(parseAddress(text, side)).toEqual({ ok: true, value: address });
  });

  it.each<[AddressSide, string, string]>([
    ['listen', '0.0.0.0:9999', 'expected an address with its scheme: tls://0.0.0.0:9999'],
    ['listen', '', 'expected an address with its scheme'],
    ['listen', 'ftp://host:1', 'expected an address with its scheme'],
    ['listen', 'tls:host:9999', 'tls: must be followed by two slashes: write tls://host:9999'],
    ['listen', 'tls://host', 'the port is missing: write tls://host:9999'],
    ['listen', 'tls://[::]', 'the port is missing: write tls://[::]:9999'],
    ['listen', 'tls://host:', 'the port must be a number from 1 to 65535'],
    ['listen', 'tls://:9999', 'the host is missing: write tls://0.0.0.0:9999 or tls://[::]:9999'],
    ['listen', 'tls://::1:9999', 'an IPv6 address must be in brackets: write tls://[::1]:9999'],
    ['listen', 'tls://[10.0.0.1]:9999', 'brackets must contain an IPv6 address'],
    ['listen', 'tls://host:65536', 'the port must be a number from 1 to 65535: write tls://host:9999'],
    ['listen', 'tls://host:+1', 'the port must be a number from 1 to 65535'],
    ['listen', 'tls://host:0x10', 'the port must be a number from 1 to 65535'],
    ['listen', 'tls://256.0.0.1:9999', 'an IPv4 address must have four numbers from 0 to 255'],
    ['listen', 'tls://-bad-:9999', 'expected a host name'],
    ['listen', 'tls://host:9999/path', 'nothing may follow the port: write tls://host:9999'],
    ['listen', ' tls://host:9999', 'an address must not contain spaces'],
    ['listen', 'dns:host:1', 'only valid in `forward`'],
    ['listen', 'https://0.0.0.0', 'the port is missing: write https://0.0.0.0:8443'],
    ['listen', 'http://127.0.0.1/', 'the port is missing: write http://127.0.0.1:8180'],
    ['forward', 'https://gitlab.example.com/gitlab', 'nothing may follow the port: write https://host:443'],
    ['forward', 'https://gitlab.example.com//', 'nothing may follow the port'],
    ['forward', 'https://', 'the host is missing: write https://host:443'],
    ['forward', 'https:///', 'nothing may follow the port'],
    ['forward', 'https:gitlab.example.com', 'https: must be followed by two slashes: write https://host:443'],
    ['forward', 'https://git:secret@gitlab.example.com', 'an address must not contain a user or password'],
    ['forward', 'tcp://127.0.0.1:0', 'port 0 means "any free port"'],
    ['forward', 'tcp://user:pass@host:1', 'an address must not contain a user or password'],
    ['forward', 'dns:host', 'the port is missing: write dns:host:8075'],
    ['forward', 'dns://server/host:1', 'a DNS server cannot be specified'],
    ['forward', 'unix:run/a.socket', 'the path of a unix socket must be absolute'],
    ['forward', 'unix://run/a.socket', 'the path of a unix socket must be absolute'],
    ['forward', 'unix:/run/', 'a unix socket is a file, not a directory'],
    ['forward', `unix:/${'a'.repeat(107)}`, 'must not exceed 107 bytes'],
  ])('refuses for %s: %s', (side, text, message) => {
    expect(parseAddress(text, side)).toEqual({
      ok: false,
      message: expect.stringContaining(message) as string,
    });
  });
});
