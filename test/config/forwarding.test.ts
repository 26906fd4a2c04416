import { describe, expect, test } from 'vitest';

import { describeForwarding, upstreamsOf } from '../../src/config/forwarding.js';
import { loadConfiguration, type LoadResult } from '../../src/config/load.js';
import type { Forwarding } from '../../src/config/model.js';
import { formatProblem } from '../../src/config/problem.js';
import { kindOf, textOf } from '../support/path-kind.js';

const TLS = 'tls: { certificate_path: cert.pem, key_path: key.pem }\n';

function load(listener: string): LoadResult {
  return loadConfiguration(`${TLS}listeners:\n${listener}`, {
    file: 'proxy.yaml',
    directory: '/etc',
    env: {},
    kindOf,
    textOf,
  });
}

/** A `tls://` listener that forwards by these names; they begin at line 5. */
function byName(...entries: string[]): LoadResult {
  const map = entries.map((entry) => `      ${entry}\n`).join('');
  return load(`  - listen: tls://0.0.0.0:9999\n    forward_by_server_name:\n${map}`);
}

function problems(result: LoadResult): string[] {
  return result.problems.map((problem) => formatProblem(problem, result).replace(/^proxy\.yaml:/u, ''));
}

function forwardingOf({ problems: found, configuration }: LoadResult): Forwarding {
  expect(found).toEqual([]);
  const forwarding = configuration?.listeners[0]?.forwarding;
  if (!forwarding) throw new Error('no listener');
  return forwarding;
}

test('names are kept in lower case and without the dot of the root; upstreams are what `forward` takes', () => {
  const forwarding = forwardingOf(
    byName(
      'Gitaly-A.Internal: tcp://10.0.0.1:8075',
      'gitaly_b.internal.: dns:///gitaly-b:8075',
      '"*.EU.internal": unix:/run/gitaly.socket',
      'tunnel.internal: tls://gitaly-d.internal:9999',
      'alias.internal: tcp://10.0.0.1:8075',
      'default: tcp://10.0.0.9:8075',
    ),
  );
  expect(forwarding.routes.map(({ name, upstream }) => [name, upstream.url])).toEqual([
    ['gitaly-a.internal', 'tcp://10.0.0.1:8075'],
    ['gitaly_b.internal', 'tcp://gitaly-b:8075'],
    ['*.eu.internal', 'unix:/run/gitaly.socket'],
    ['tunnel.internal', 'tls://gitaly-d.internal:9999'],
    ['alias.internal', 'tcp://10.0.0.1:8075'],
  ]);
  expect(forwarding.routes[0]?.key).toEqual(['listeners', 0, 'forward_by_server_name', 'Gitaly-A.Internal']);
  expect(forwarding.fallback?.url).toBe('tcp://10.0.0.9:8075');
  // Each once, though two names lead there.
  expect(upstreamsOf(forwarding).map(({ url }) => url)).toEqual([
    'tcp://10.0.0.1:8075',
    'tcp://gitaly-b:8075',
    'unix:/run/gitaly.socket',
    'tls://gitaly-d.internal:9999',
    'tcp://10.0.0.9:8075',
  ]);
});

test('a plain forward is a table with a default alone', () => {
  const forwarding = forwardingOf(load('  - { listen: tls://0.0.0.0:9999, forward: tcp://10.0.0.1:8075 }\n'));
  expect(forwarding.routes).toEqual([]);
  expect(upstreamsOf(forwarding)).toEqual([forwarding.fallback]);
  expect(describeForwarding(forwarding)).toBe('tcp://10.0.0.1:8075');
});

test('upstream_tls is for those that are tls://, whichever they are', () => {
  const listener = '  - listen: tls://0.0.0.0:9999\n    upstream_tls: { min_version: "TLS 1.3" }\n';
  const map = (second: string): string =>
    `    forward_by_server_name:\n      a: tcp://10.0.0.1:1\n      b: ${second}\n`;
  expect(load(listener + map('tls://b:1')).configuration?.listeners[0]?.upstreamTls).toMatchObject({
    minVersion: 'TLSv1.3',
    serverName: undefined,
    protocol: 'h2',
  });
  expect(problems(load(listener + map('tcp://10.0.0.2:1')))).toEqual([
    '4: listeners[0].upstream_tls: `upstream_tls` is for tls:// and https:// upstreams, but these are tcp://10.0.0.1:1, tcp://10.0.0.2:1: remove it or forward with TLS',
  ]);
  // One that cannot be read may have been meant to be one.
  expect(problems(load(listener + map('nowhere')))).toHaveLength(1);
});

describe('problems, each with its line:', () => {
  const name = 'listeners[0].forward_by_server_name';
  test.each<[string, string[], string[]]>([
    [
      'names that are one when compared',
      ['gitaly-a.internal: tcp://h:1', 'GITALY-A.internal.: tcp://h:2'],
      [
        `6: ${name}.GITALY-A.internal.: the same name as ${name}.gitaly-a.internal: remove one of them (got "GITALY-A.internal.")`,
      ],
    ],
    [
      'IP addresses',
      ['10.0.0.1: tcp://h:1', '"::1": tcp://h:1', '"[::1]": tcp://h:1', '"*.0.0.1": tcp://h:1'],
      ['10.0.0.1', '::1', '[::1]', '*.0.0.1'].map(
        (address, index) =>
          `${5 + index}: ${name}.${address}: a client that dials an IP address sends no server name and uses \`default\`: write a name such as gitaly-a.internal (got "${address}")`,
      ),
    ],
    [
      'wildcards that are none',
      ['"*": tcp://h:1', '"gitaly-*.internal": tcp://h:1', '"*.*.internal": tcp://h:1', '"a.*": tcp://h:1'],
      [
        `5: ${name}.*: a \`*\` matches one label of a longer name: write \`default\` for all other names (got "*")`,
        ...['gitaly-*.internal', '*.*.internal', 'a.*'].map(
          (text, index) =>
            `${6 + index}: ${name}.${text}: a \`*\` is only allowed as the whole first label: write "*.eu.internal" (got "${text}")`,
        ),
      ],
    ],
    [
      'no names',
      ['"a b": tcp://h:1', 'gitaly-a.internal:9999: tcp://h:1', '"-a": tcp://h:1', '"": tcp://h:1'],
      [
        `5: ${name}."a b": expected a server name such as gitaly-a.internal or "*.eu.internal", or \`default\` (got "a b")`,
        `6: ${name}.gitaly-a.internal:9999: a server name must not have a port: write gitaly-a.internal (got "gitaly-a.internal:9999")`,
        `7: ${name}.-a: expected a server name such as gitaly-a.internal or "*.eu.internal", or \`default\` (got "-a")`,
        `8: ${name}.: expected a server name such as gitaly-a.internal or "*.eu.internal", or \`default\` (got "")`,
      ],
    ],
    [
      'default in other letters',
      ['Default: tcp://h:1'],
      [`5: ${name}.Default: the entry for all other names is \`default\` (got "Default")`],
    ],
    [
      'upstreams that cannot be',
      ['a: ftp://h:1', 'b: http://h:1', 'c: tls://0.0.0.0:9999', 'd:', 'default: tcp://h'],
      [
        `5: ${name}.a: expected an address with its scheme: tcp://127.0.0.1:8075, tls://gitaly.internal:9999, dns:gitaly.internal:8075, unix:/var/opt/gitlab/gitaly/gitaly.socket or https://gitlab.example.com (got "ftp://h:1")`,
        `6: ${name}.b: HTTP cannot be forwarded by server name: write the tcp://, unix:, dns:, tls:// or dns+tls: address of a Gitaly (got "http://h:1")`,
        `7: ${name}.c: forwards to its own \`listen\` address: write the address of the server behind it (got "tls://0.0.0.0:9999")`,
        `8: ${name}.d: the key has no value: expected a string such as "tcp://10.0.0.1:8075" (got null)`,
        `9: ${name}.default: the port is missing: write tcp://h:8075 (got "tcp://h")`,
      ],
    ],
    [
      'the same key twice',
      ['a: tcp://h:1', 'a: tcp://h:2'],
      [`6: ${name}.a: the key is repeated: remove one of them`],
    ],
  ])('%s', (_what, entries, expected) => {
    const result = byName(...entries);
    expect(problems(result)).toEqual(expected);
    expect(result.configuration).toBeUndefined();
  });

  const NAMES = '    forward_by_server_name: { a: tcp://h:1 }\n';
  test.each<[string, string, string[]]>([
    [
      'beside `forward`',
      `  - listen: tls://0.0.0.0:9999\n    forward: tcp://h:1\n${NAMES}`,
      [
        `5: ${name}: cannot be combined with \`forward\`: remove one of them; its \`default\` entry has the same effect as \`forward\``,
      ],
    ],
    [
      'neither',
      '  - listen: tls://0.0.0.0:9999\n',
      [
        '3: listeners[0].forward: missing: expected a string such as "tcp://127.0.0.1:8075", or `forward_by_server_name`',
      ],
    ],
    [
      'without an entry',
      '  - listen: tls://0.0.0.0:9999\n    forward_by_server_name: {}\n',
      [`4: ${name}: contains no upstream: write for example "gitaly-a.internal: tcp://10.0.0.1:8075"`],
    ],
    [
      'no map',
      '  - listen: tls://0.0.0.0:9999\n    forward_by_server_name: [tcp://h:1]\n',
      [
        `4: ${name}: expected a map such as {"gitaly-a.internal":"tcp://10.0.0.1:8075","default":"tcp://10.0.0.9:8075"}`,
      ],
    ],
    [
      'on an https:// listener',
      `  - listen: https://0.0.0.0:8443\n${NAMES}`,
      [
        `4: ${name}: is for tls:// listeners, but this one listens on https://0.0.0.0:8443, where requests for several names may share a connection: use \`forward\``,
      ],
    ],
    [
      'on a plaintext listener',
      `  - listen: unix:/run/a\n${NAMES}`,
      [
        `4: ${name}: is for tls:// listeners, but this one listens on unix:/run/a, where clients send no server name: use \`forward\``,
      ],
    ],
    [
      'with what is for HTTP',
      `  - listen: tls://0.0.0.0:9999\n${NAMES}    paths: [/a]\n`,
      [
        '5: listeners[0].paths: `paths` is for listeners that forward HTTP (https:// or http://), but this one does not: remove it',
      ],
    ],
    [
      'misspelt',
      '  - listen: tls://0.0.0.0:9999\n    forward_by_servername: { a: tcp://h:1 }\n',
      [
        '4: listeners[0].forward_by_servername: unknown key `forward_by_servername`; did you mean `forward_by_server_name`?',
      ],
    ],
  ])('%s', (_what, listener, expected) => {
    const result = load(listener);
    expect(problems(result)).toEqual(expected);
    expect(result.configuration).toBeUndefined();
  });

  test('a wildcard without quotes, which YAML reads as an alias', () => {
    const [first] = problems(byName('*.eu.internal : tcp://h:1'));
    expect(first).toMatch(/^(?:5: )?not valid YAML|cannot be read as YAML/u);
    expect(problems(byName('*.eu.internal: tcp://h:1')).join('\n')).toContain(
      'a string that begins with * must be in quotes, for example "*.eu.internal"',
    );
  });
});
