import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

import { loadConfiguration } from '../../../src/config/load.js';
import type { HostPort } from '../../../src/config/model.js';
import { ImportFault } from '../../../src/commands/import/found.js';
import { importConfiguration, type Imported } from '../../../src/commands/import/import-configuration.js';
import type { ImportSide } from '../../../src/commands/import/import-plan.js';
import { kindOf, textOf } from '../../support/path-kind.js';

/** A token, a password or a path that no message and no comment may hold. */
const SECRET = 'TOP-SECRET';

function sample(name: string): string {
  return readFileSync(fileURLToPath(new URL(`samples/${name}`, import.meta.url)), 'utf8');
}

function imported(
  text: string,
  { only, name = 'FILE' }: { only?: ImportSide; name?: string } = {},
): Imported {
  const result = importConfiguration(text, { name, only, socketDirectory: '/run/sockets' });
  expect(result.text).not.toContain(SECRET);
  expect(JSON.stringify(result.unread)).not.toContain(SECRET);
  return result;
}

/** What `serve` makes of the result. */
function loaded({ text }: Imported) {
  const { problems, configuration } = loadConfiguration(text, {
    file: 'imported.yaml',
    directory: '/',
    env: {},
    kindOf,
    textOf,
  });
  expect(problems).toEqual([]);
  if (configuration === undefined) throw new Error('no configuration');
  return configuration;
}

function pairs(result: Imported): string[] {
  return loaded(result).listeners.map(
    ({ listen, forwarding }) => `${listen.url} -> ${forwarding.fallback?.url}`,
  );
}

function leftOut({ unread }: Imported): string[] {
  return unread.map(({ key, line, reason }) => `${line === undefined ? '' : `${line}: `}${key}: ${reason}`);
}

function fault(text: string, name = 'FILE'): ImportFault {
  try {
    imported(text, { name });
  } catch (error) {
    if (error instanceof ImportFault) return error;
    throw error;
  }
  throw new Error('it was imported');
}

describe('config.toml', () => {
  test("Gitaly's, as Omnibus writes it: TLS, the plaintext address of before, and all that the two have in common", () => {
    const result = imported(sample('gitaly.toml'));
    expect(pairs(result)).toEqual([
      'tls://0.0.0.0:9999 -> tcp://127.0.0.1:8076',
      'tcp://0.0.0.0:8075 -> tcp://127.0.0.1:8076',
    ]);
    expect(loaded(result)).toMatchObject({
      prometheusListenAddr: { host: '0.0.0.0', port: 9237 },
      gracefulRestartTimeoutMs: 120_000,
      logging: { level: 'warn', format: 'json' },
      listeners: [
        {
          tls: {
            minVersion: 'TLSv1.3',
            certificates: [
              { certificate: { path: '/etc/gitlab/ssl/cert.pem' }, key: { path: '/etc/gitlab/ssl/key.pem' } },
            ],
          },
        },
        {},
      ],
    });
    expect(leftOut(result)).toEqual([]);
  });

  test("Praefect's: its own listener, and its Gitalys by unix sockets", () => {
    const result = imported(sample('praefect.toml'));
    expect(pairs(result)).toEqual([
      'tls://0.0.0.0:3305 -> tcp://127.0.0.1:2305',
      'unix:/run/sockets/gitaly-1.socket -> tls://gitaly-1.internal:9999',
      'unix:/run/sockets/gitaly-2.socket -> tcp://gitaly-2.internal:8075',
    ]);
    expect(loaded(result).prometheusListenAddr).toEqual({ host: '127.0.0.1', port: 9653 });
    expect(leftOut(result)).toEqual([
      'virtual_storage[0].node[2].address: expected tls://host:port, tcp://host:port, dns:host:port, dns+tls:host:port or unix:/path',
    ]);
  });

  const tls = '[tls]\ncertificate_path = "/c.pem"\nkey_path = "/k.pem"\n';
  test.each<[string, string, string[]]>([
    [
      'TLS alone: Gitaly gets a loopback address',
      `tls_listen_addr = ":9999"\n${tls}`,
      ['tls://[::]:9999 -> tcp://127.0.0.1:8075'],
    ],
    [
      'TLS and loopback: Gitaly stays as it is',
      `tls_listen_addr = "localhost:9999"\nlisten_addr = "[::1]:7000"\n${tls}`,
      ['tls://127.0.0.1:9999 -> tcp://[::1]:7000'],
    ],
    [
      'TLS and a plaintext address of the node: Gitaly keeps the port, on loopback',
      `tls_listen_addr = "10.1.2.3:9999"\nlisten_addr = "10.1.2.3:8075"\n${tls}`,
      ['tls://10.1.2.3:9999 -> tcp://127.0.0.1:8075', 'tcp://10.1.2.3:8075 -> tcp://127.0.0.1:8075'],
    ],
    [
      'the usual loopback port is taken by something else of its own',
      `tls_listen_addr = "0.0.0.0:8075"\nprometheus_listen_addr = "0.0.0.0:8076"\n${tls}`,
      ['tls://0.0.0.0:8075 -> tcp://127.0.0.1:8077'],
    ],
    [
      'a unix socket alone',
      `socket_path = "/run/gitaly.socket"\n`,
      ['tls://0.0.0.0:9999 -> unix:/run/gitaly.socket'],
    ],
    [
      'plaintext on all addresses, with a unix socket, by which Gitaly is reached while its address changes',
      `listen_addr = "0.0.0.0:8075"\nsocket_path = "/run/gitaly.socket"\n`,
      ['tls://0.0.0.0:9999 -> unix:/run/gitaly.socket', 'tcp://0.0.0.0:8075 -> unix:/run/gitaly.socket'],
    ],
    [
      'plaintext on all addresses alone: Gitaly stays',
      `listen_addr = "0.0.0.0:8075"\n`,
      ['tls://0.0.0.0:9999 -> tcp://127.0.0.1:8075'],
    ],
    [
      'plaintext on loopback',
      `listen_addr = "127.0.0.1:9999"\n`,
      ['tls://0.0.0.0:10000 -> tcp://127.0.0.1:9999'],
    ],
  ])('%s', (_what, text, expected) => {
    expect(pairs(imported(text))).toEqual(expected);
  });

  test('values that the proxy cannot have are listed, not guessed', () => {
    const result = imported(`
      listen_addr = "${SECRET}"
      tls_listen_addr = "0.0.0.0:9999"
      prometheus_listen_addr = 9236
      graceful_restart_timeout = "${SECRET}"
      socket_path = "gitaly.socket"
      [logging]
      level = "${SECRET}"
      [tls]
      key = "${SECRET}"
      key_path = "key.pem"
      min_version = "${SECRET}"`);
    expect(leftOut(result).sort()).toEqual([
      'graceful_restart_timeout: the proxy has no such value',
      'listen_addr: expected host:port',
      'logging.level: the proxy has no such value',
      'prometheus_listen_addr: expected a string',
      'socket_path: the path of a unix socket is absolute, and not longer than 107 bytes',
      'tls.key: the proxy reads its key from a file: write it to one, and name that in key_path',
      'tls.key_path: it is relative to where Gitaly was started: write it from the root',
      'tls.min_version: it is "TLS 1.2" or "TLS 1.3"',
    ]);
  });

  test('64-bit integers are read, and nothing that the proxy does not need is listed', () => {
    const result = imported(
      `listen_addr = "127.0.0.1:1"\n[cgroups]\nmemory_bytes = 9223372036854775807\nlowest = -9223372036854775808\nsince = 1979-05-27T07:32:00Z\n[auth]\ntoken = "<%= ENV['${SECRET}'] %>"\n`,
    );
    expect(pairs(result)).toEqual(['tls://0.0.0.0:9999 -> tcp://127.0.0.1:1']);
    expect(leftOut(result)).toEqual([]);
  });

  test.each<[string, HostPort]>([
    ['0.0.0.0:9236', { host: '0.0.0.0', port: 9237 }],
    ['[::]:9236', { host: '::', port: 9237 }],
    [':9236', { host: '', port: 9237 }],
    ['0.0.0.0', { host: '0.0.0.0', port: 9237 }],
  ])('metrics on every interface (%s) are taken over with a warning', (address, expected) => {
    const result = imported(`listen_addr = "127.0.0.1:1"\nprometheus_listen_addr = "${address}"\n`);
    expect(loaded(result).prometheusListenAddr).toEqual(expected);
    expect(leftOut(result)).toEqual([]);
    expect(result.warnings).toMatchObject([
      {
        key: 'prometheus_listen_addr',
        reason: expect.stringContaining('change it to 127.0.0.1:9237') as string,
      },
    ]);
    expect(result.text).toContain('# - prometheus_listen_addr: every machine that reaches port 9237');
  });

  test.each(['localhost:9236', '127.0.0.1:9236', '10.1.2.3:9236'])(
    'metrics on %s need no warning',
    (address) => {
      expect(
        imported(`listen_addr = "127.0.0.1:1"\nprometheus_listen_addr = "${address}"\n`).warnings,
      ).toEqual([]);
    },
  );

  test("a graceful_restart_timeout shorter than the proxy's default is taken over with a warning", () => {
    const warnings = (timeout: string): string[] =>
      imported(`listen_addr = "127.0.0.1:1"\ngraceful_restart_timeout = "${timeout}"\n`).warnings.map(
        ({ key }) => key,
      );
    expect(warnings('1m')).toEqual(['graceful_restart_timeout']);
    expect(warnings('1h')).toEqual([]);
  });

  test('localhost is 127.0.0.1, on which Gitaly listens for that name', () => {
    expect(
      pairs(imported(`listen_addr = "localhost:8075"\ntls_listen_addr = "localhost.localdomain:9999"\n`)),
    ).toEqual(['tls://127.0.0.1:9999 -> tcp://127.0.0.1:8075']);
  });

  test('what is no TOML is told with its line, and without what stands there', () => {
    const { message, line } = fault(`listen_addr = "a:1"\n[auth]\ntoken = ${SECRET}\n`);
    expect(message).toBe('not valid TOML: the error is at column 9');
    expect(line).toBe(3);
  });
});

describe('gitlab.yml', () => {
  test('its storages, of the production section', () => {
    const result = imported(sample('gitlab.yml'));
    expect(pairs(result)).toEqual([
      'unix:/run/sockets/default.socket -> tls://gitaly-a.internal:9999',
      'unix:/run/sockets/storage1.socket -> tcp://gitaly-b.internal:8075',
    ]);
    expect(leftOut(result)).toEqual([
      '26: production.repositories.storages.local.gitaly_address: a unix socket is on the same machine and needs no proxy',
      '27: production.repositories.storages.computed.gitaly_address: a template computes it (ERB)',
      '28: production.repositories.storages.strange.gitaly_address: expected tls://host:port, tcp://host:port, dns:host:port, dns+tls:host:port or unix:/path',
    ]);
    expect(result.text).toContain('forward becomes');
  });

  test('merged sections count; a needed key that is set twice is listed', () => {
    const result = imported(
      `base: &base\n  gitaly: { token: '${SECRET}' }\n  x: 1\n  x: 2\nproduction:\n  <<: *base\n  repositories: {}\n  repositories: { storages: { default: { gitaly_address: 'tls://a:1' } } }\n`,
      { name: 'gitlab.yml' },
    );
    expect(pairs(result)).toEqual(['unix:/run/sockets/default.socket -> tls://a:1']);
    expect(leftOut(result)).toEqual([
      '8: production.repositories: it is set twice, and the last value was taken',
    ]);
  });

  test.each([
    [
      `production:\n  gitaly: { token: *${SECRET} }\n`,
      'not valid YAML: an alias has no anchor, or the nesting is too deep',
    ],
    [`production:\n  gitaly: { token: "${SECRET}\n`, 'not valid YAML: the error is on this line'],
  ])('what is no YAML is told without what stands there', (text, message) => {
    expect(fault(text).message).toBe(message);
  });
});

describe('addresses of storages', () => {
  const result = (address: string): Imported =>
    imported(
      JSON.stringify({
        production: {
          repositories: {
            storages: { tested: { gitaly_address: address }, other: { gitaly_address: 'tls://o:1' } },
          },
        },
      }),
      { name: 'gitlab.yml' },
    );
  const forward = (address: string): string | undefined =>
    /tested\.socket -> (.*)/u.exec(pairs(result(address)).join('\n'))?.[1];

  test.each([
    ['dns:gitaly.internal:8075', 'tcp://gitaly.internal:8075'],
    ['dns:///gitaly.internal:8075', 'tcp://gitaly.internal:8075'],
    ['dns+tls:gitaly.internal:9999', 'tls://gitaly.internal:9999'],
    ['dns+tls:///praefect.service.consul.:3305', 'tls://praefect.service.consul.:3305'],
  ])('%s is forwarded to %s', (address, expected) => {
    expect(forward(address)).toBe(expected);
  });

  test.each([
    [
      'dns+tls://10.0.1.50:8600/praefect.service.consul.:3305',
      'it names a DNS server, which the proxy cannot choose',
    ],
    ['dns://10.0.1.50/gitaly:8075', 'it names a DNS server, which the proxy cannot choose'],
    ['dns+tls:///gitaly.internal', 'expected tls://host:port'],
    ['tcp://localhost:8075', 'plaintext on loopback stays on the same machine'],
    ['tcp://127.0.0.2:8075', 'plaintext on loopback stays on the same machine'],
    ['tcp://[::1]:8075', 'plaintext on loopback stays on the same machine'],
    ['{{ .Values.gitaly }}', 'a template computes it'],
  ])('%s is listed: %s', (address, reason) => {
    expect(forward(address)).toBeUndefined();
    expect(leftOut(result(address))).toEqual([expect.stringContaining(`tested.gitaly_address: ${reason}`)]);
  });

  test.each([
    ['tcp://praefect:2305', '', 'tls://praefect:3305'],
    ['tcp://gitaly:8075', '', 'tls://gitaly:9999'],
    ['tcp://gitaly:7000', '', 'tls://gitaly:9999'],
    [
      'tcp://praefect:2305',
      "praefect['configuration'] = { listen_addr: '0.0.0.0:2305', tls_listen_addr: '0.0.0.0:3306' }",
      'tls://praefect:3306',
    ],
    [
      'tcp://gitaly:7000',
      "gitaly['listen_addr'] = '0.0.0.0:7000'\ngitaly['tls_listen_addr'] = ':7001'",
      'tls://gitaly:7001',
    ],
  ])('%s in plaintext becomes TLS on the port of that server: %s %s', (address, server, expected) => {
    const { text } = imported(
      `gitlab_rails['repositories_storages'] = { 'a' => { 'gitaly_address' => '${address}' } }\n${server}\n`,
    );
    expect(text).toContain(`forward: ${expected}\n`);
    expect(text.replaceAll(/\n *# /gu, ' ')).toContain(`forward becomes ${expected}`);
  });
});

describe('a byte order mark is skipped:', () => {
  test.each([
    ['gitlab.rb', `external_url 'https://g'\ngitaly['listen_addr'] = '127.0.0.1:1'\n`],
    ['config.toml', `listen_addr = "127.0.0.1:1"\n`],
    ['gitlab.yml', `production: { repositories: { storages: { a: { gitaly_address: 'tls://a:1' } } } }\n`],
  ])('%s', (name, text) => {
    expect(pairs(imported(`\u{feff}${text}`, { name }))).toHaveLength(1);
  });
});

describe('a file that is not yet one of these is refused with what to import instead:', () => {
  const storage = `production:\n  repositories:\n    storages:\n      a: { gitaly_address: 'tls://a:1' }\n`;
  test.each<[string, string, number | undefined, string]>([
    [
      'gitlab.yml',
      `${storage}  <% if x %>\n  gitlab: 1\n  <% end %>\n`,
      5,
      'a template (ERB): render it on the node',
    ],
    [
      'gitlab.yml',
      `${storage}  gitlab: {{ .Values.x }}\n`,
      5,
      'a template ({{ … }} or {% … %}): import the rendered',
    ],
    ['gitlab.yml', `{% if x %}\n${storage}{% endif %}\n`, 1, 'a template ({{ … }} or {% … %})'],
    ['gitlab.rb', `<% if x %>\ngitaly['listen_addr'] = '127.0.0.1:1'\n<% end %>\n`, 1, 'a template (ERB)'],
    ['gitlab.rb', `gitaly['listen_addr'] = <%= x %>\n`, 1, 'a template (ERB)'],
    ['gitlab.rb', `{{- if .x }}\ngitaly['listen_addr'] = '127.0.0.1:1'\n{{- end }}\n`, 1, 'a template ({{ …'],
    ['gitlab.rb', `{% if x %}\ngitaly['listen_addr'] = '127.0.0.1:1'\n{% endif %}\n`, 1, 'a template ({{ …'],
    ['gitlab.rb', `gitaly['listen_addr'] = {{ gitaly_address | quote }}\n`, 1, 'a template ({{ …'],
    ['config.toml', `listen_addr = "127.0.0.1:1"\n{{ if .x }}\n`, 2, 'not valid TOML: this is a template'],
    ['config.toml', `[auth]\ntoken = {% file.Read "/x" %}\n`, 2, 'not valid TOML: this is a template'],
    [
      'compose.yml',
      `services:\n  gitlab:\n    environment:\n      GITLAB_OMNIBUS_CONFIG: |\n        external_url 'https://g'\n`,
      undefined,
      'whose value is a gitlab.rb',
    ],
    [
      'configmap.yml',
      `apiVersion: v1\nkind: ConfigMap\ndata:\n  config.toml: |\n    listen_addr = "0.0.0.0:1"\n`,
      undefined,
      'a Kubernetes manifest',
    ],
    [
      'values.yaml',
      `global:\n  gitaly:\n    tls: { enabled: true }\n`,
      undefined,
      'values of the Helm chart',
    ],
  ])('%s: %s', (name, text, line, message) => {
    const refused = fault(text, name);
    expect(refused.message).toContain(message);
    expect(refused.line).toBe(line);
  });

  test('marks of templates in comments and in settings that are not needed do not matter', () => {
    expect(
      pairs(
        imported(
          `# {{ a }} <% b %>\ngitaly['listen_addr'] = '127.0.0.1:1'\ngitlab_rails['x'] = '<%= y %>'\nz = [1].map { |i| %w(a) }\n`,
        ),
      ),
    ).toHaveLength(1);
  });
});

describe('gitlab.rb', () => {
  test('literal settings of both sides; what is computed is listed with its line', () => {
    const result = imported(sample('gitlab.rb'));
    expect(pairs(result)).toEqual([
      'tls://0.0.0.0:9999 -> tcp://127.0.0.1:8075',
      'tcp://10.1.2.3:8075 -> tcp://127.0.0.1:8075',
      'unix:/run/sockets/default.socket -> tls://gitaly-a.internal:9999',
      'unix:/run/sockets/storage1.socket -> tls://gitaly-a.internal:9999',
      'unix:/run/sockets/it_s.socket -> tcp://gitaly-b.internal:8075',
    ]);
    expect(loaded(result)).toMatchObject({
      prometheusListenAddr: { host: '', port: 9237 },
      logging: { level: 'error' },
      listeners: [
        { tls: { certificates: [{ certificate: { path: '/etc/gitlab/ssl/gitaly.pem' } }] } },
        {},
        {},
        {},
        {},
      ],
    });
    expect(leftOut(result)).toEqual([
      "31: gitaly['configuration'].tls.key_path: it is computed: a string with an interpolation",
      "50: praefect['configuration']: it is set under a condition or in a loop",
    ]);
    // An address that was not read has no place in the configuration, and says so where it would stand.
    expect(result.text).toContain('no others could be read');
  });

  test('what the proxy has no use for is listed where it stands, by the name that it has there', () => {
    const result = imported(`gitaly['configuration'] = {
      listen_addr: 'nowhere',
      tls_listen_addr: '0.0.0.0:9999',
      tls: { min_version: 'TLS 1.1', certificate_path: 'cert.pem' },
      logging: { level: 'loud' },
    }
    gitaly['prometheus_listen_addr'] = 'no where'
    gitaly['socket_path'] = 'gitaly.socket'
    `);
    expect(leftOut(result)).toEqual([
      "2: gitaly['configuration'].listen_addr: expected host:port",
      '4: gitaly[\'configuration\'].tls.min_version: it is "TLS 1.2" or "TLS 1.3"',
      "4: gitaly['configuration'].tls.certificate_path: it is relative to where Gitaly was started: write it from the root",
      "5: gitaly['configuration'].logging.level: the proxy has no such value",
      "7: gitaly['prometheus_listen_addr']: expected host:port",
      "8: gitaly['socket_path']: the path of a unix socket is absolute, and not longer than 107 bytes",
    ]);
  });

  test('the names of GitLab 15; one side alone', () => {
    expect(pairs(imported(sample('gitlab-15.rb'), { only: 'gitaly' }))).toEqual([
      'tls://0.0.0.0:9999 -> tcp://127.0.0.1:8075',
    ]);
    expect(pairs(imported(sample('gitlab-15.rb'), { only: 'praefect' }))).toEqual([
      'tls://0.0.0.0:3305 -> tcp://127.0.0.1:2305',
      'unix:/run/sockets/gitaly-1.socket -> tls://gitaly-1.internal:9999',
      'unix:/run/sockets/gitaly-2.socket -> tls://gitaly-2.internal:9999',
    ]);
    const clients = imported(sample('gitlab-15.rb'), { only: 'clients' });
    expect(pairs(clients)).toEqual(['unix:/run/sockets/default.socket -> tls://gitaly-a.internal:9999']);
    expect(pairs(imported(sample('gitlab-15.rb')))).toHaveLength(5);
  });

  test('another file that is read may set anything', () => {
    const result = imported(
      `from_file '/etc/gitlab/${SECRET}.rb'\ngitaly['configuration'] = { listen_addr: '127.0.0.1:1' }`,
    );
    expect(leftOut(result)).toEqual(['1: from_file: what it reads may set anything: import that too']);
  });

  test('an address that is computed has the usual one in its place, and a comment that says so', () => {
    const result = imported(
      `gitaly['configuration'] = { tls_listen_addr: ENV['${SECRET}'], listen_addr: x }`,
    );
    expect(pairs(result)).toEqual(['tls://0.0.0.0:9999 -> tcp://127.0.0.1:8075']);
    expect(result.text).toContain('tls_listen_addr could not be read');
    expect(result.text).toContain('listen_addr could not be read: forward');
    expect(leftOut(result)).toHaveLength(2);
  });

  test('what cannot be followed is refused, with its line', () => {
    expect(fault(`gitaly['configuration'] = {\n  listen_addr: '${SECRET}\n`)).toMatchObject({
      message: 'this cannot be followed as Ruby: a string is not closed',
      line: 2,
    });
  });
});

test.each([
  ['', 'unknown file: expected'],
  ['once upon a time', 'unknown file: expected'],
  ['{"a": 1}', 'unknown file: expected'],
  ['listeners:\n  - listen: tcp://a:1', 'this is already a configuration of gitaly-tls-proxy'],
  ['bin_dir = "/x"', 'this config.toml has nothing to put a proxy in front of: it needs listen_addr'],
  ["external_url 'http://a'", 'this gitlab.rb has nothing to put a proxy in front of'],
  ['production:\n  gitlab: { host: a }', 'this gitlab.yml has nothing to put a proxy in front of'],
  [
    "gitaly['listen_addr'] = '0.0.0.0:9999'\ngitaly['tls_listen_addr'] = '0.0.0.0:1234'\npraefect['tls_listen_addr'] = '0.0.0.0:1234'",
    'several servers of this file have tls://0.0.0.0:1234, on different nodes: choose one with --only',
  ],
])('%j is refused', (text, message) => {
  expect(fault(text).message).toContain(message);
});

test('names of storages and files end no line of comments, and no two have one socket', () => {
  const storages = Object.fromEntries(
    ['a b', 'a/b', 'a\nb: c', '../../b', '"', "'"].map((name) => [name, { gitaly_address: 'tls://g:1' }]),
  );
  const result = imported(JSON.stringify({ production: { repositories: { storages } } }), {
    name: 'x\ny.yml',
  });
  expect(new Set(pairs(result)).size).toBe(6);
  expect(result.text).not.toMatch(/^y\.yml|^b: c/mu);
  for (const { listen } of loaded(result).listeners)
    expect(listen.url).toMatch(/^unix:\/run\/sockets\/[^/]+\.socket$/u);
});
