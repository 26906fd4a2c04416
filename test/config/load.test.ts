import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Environment } from '../../src/config/build-context.js';
import {
  configurationFromFlags,
  loadConfiguration,
  readConfiguration,
  type LoadResult,
} from '../../src/config/load.js';
import type { ListenerConfiguration } from '../../src/config/model.js';
import { formatProblem } from '../../src/config/problem.js';
import { ABUSE_LIMITS } from '../../src/limits.js';
import { kindOf, textOf } from '../support/path-kind.js';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'configuration-'));
  writeFileSync(join(directory, 'ca.pem'), '');
  mkdirSync(join(directory, 'ca.d'));
});

afterAll(() => {
  rmSync(directory, { recursive: true });
});

function load(text: string, env: Environment = {}): LoadResult {
  return loadConfiguration(text, { file: 'proxy.yaml', directory, env, kindOf, textOf });
}

function lines(result: LoadResult): string[] {
  return result.problems.map((problem) => formatProblem(problem, result));
}

function onlyListener(result: LoadResult): ListenerConfiguration {
  expect(lines(result)).toEqual([]);
  const [listener, ...more] = result.configuration?.listeners ?? [];
  if (listener === undefined || more.length > 0) throw new Error('expected one listener');
  return listener;
}

const TLS = 'tls: { certificate_path: cert.pem, key_path: key.pem }\n';
const PAIR = 'listeners:\n  - listen: tls://0.0.0.0:9999\n    forward: tcp://127.0.0.1:8075\n';

describe('a complete file', () => {
  it('becomes the model, with absolute paths', () => {
    const { configuration, problems } = load(`
tls:
  certificate_path: cert.pem
  key_path: /etc/key.pem
  min_version: "TLS 1.3"
  client_auth: require
  client_ca_path: ca.d
  client_crl_path: clients.crl
  require_alpn: false
  certificates: [{ certificate_path: b.pem, key_path: b.key }]
listeners:
  - listen: tls://0.0.0.0:9999
    forward: tcp://127.0.0.1:8075
    tls: { client_auth: none, require_alpn: true }
    proxy_protocol: { accept_from: ["10.0.0.0/8", "192.0.2.1"], send: v2 }
  - listen: tls://[::1]:0
    forward: tls://Gitaly.Internal:9999
    upstream_tls: { ca_path: ca.pem, certificate_path: c.pem, key_path: c.key, min_version: "TLS 1.3" }
prometheus_listen_addr: ":9237"
admin_hosts: [Gitaly-A.internal., "*.gitlab.svc"]
graceful_restart_timeout: "2m"
logging: { level: debug, format: text, rpc: "slow:1s", rpc_sampling: 0.5 }
timeouts: { handshake: "1s", preface: "2s", dial: "3s", half_close: "4s", write_stall: "6s", idle: "5s" }
workers: 3
max_connections: 7
max_connection_age: "7s"
max_connection_age_grace: "8s"
abuse_limits:
  resets: { rate: 1.5, burst: 11 }
  late_resets: { rate: 2 }
  control_frames: { burst: 13 }
  small_frames: { rate: 4, burst: 140 }
  oversized_headers: { rate: 0, burst: 1 }
  header_list_bytes: 8192
  calls_per_connection: 10
`);
    expect(problems).toEqual([]);
    const file = (name: string, ...key: (string | number)[]) => ({ path: join(directory, name), key });
    const shared = {
      timeouts: {
        handshakeMs: 1000,
        prefaceMs: 2000,
        dialMs: 3000,
        halfCloseMs: 4000,
        writeStallMs: 6000,
        idleMs: 5000,
      },
      maxConnections: 7,
      maxUnauthenticatedConnections: 3,
      maxConnectionsPerSource: undefined,
      maxConnectionAge: { ageMs: 7000, graceMs: 8000 },
      abuseLimits: {
        resets: { perSecond: 1.5, burst: 11 },
        lateResets: { perSecond: 2, burst: 10_000 },
        controlFrames: { perSecond: 33, burst: 13 },
        smallFrames: { perSecond: 4, burst: 140 },
        oversizedHeaders: { perSecond: 0, burst: 1 },
        headerListBytes: 8192,
        callsPerConnection: 10,
      },
      inspect: 'on',
      clientAllow: undefined,
      policy: undefined,
      upstreamToken: undefined,
      upstreamMetadata: [],
      http: undefined,
    };
    const certificates = [
      {
        certificate: file('cert.pem', 'tls', 'certificate_path'),
        key: { path: '/etc/key.pem', key: ['tls', 'key_path'] },
      },
      {
        certificate: file('b.pem', 'tls', 'certificates', 0, 'certificate_path'),
        key: file('b.key', 'tls', 'certificates', 0, 'key_path'),
      },
    ];
    const upstream = ['listeners', 1, 'upstream_tls'];
    expect(configuration).toEqual({
      listeners: [
        {
          key: ['listeners', 0],
          listen: { scheme: 'tls', host: '0.0.0.0', port: 9999, url: 'tls://0.0.0.0:9999' },
          forwarding: {
            routes: [],
            fallback: { scheme: 'tcp', host: '127.0.0.1', port: 8075, url: 'tcp://127.0.0.1:8075' },
          },
          tls: {
            certificates,
            minVersion: 'TLSv1.3',
            clientAuth: 'none',
            clientCa: undefined,
            clientCrl: undefined,
            requireAlpn: true,
            protocols: ['h2'],
          },
          upstreamTls: undefined,
          proxyProtocol: { acceptFrom: ['10.0.0.0/8', '192.0.2.1/32'], send: 'v2' },
          ...shared,
        },
        {
          key: ['listeners', 1],
          listen: { scheme: 'tls', host: '::1', port: 0, url: 'tls://[::1]:0' },
          forwarding: {
            routes: [],
            fallback: {
              scheme: 'tls',
              host: 'gitaly.internal',
              port: 9999,
              url: 'tls://gitaly.internal:9999',
            },
          },
          tls: {
            certificates,
            minVersion: 'TLSv1.3',
            clientAuth: 'require',
            clientCa: { files: [], directories: [file('ca.d', 'tls', 'client_ca_path')] },
            clientCrl: file('clients.crl', 'tls', 'client_crl_path'),
            requireAlpn: false,
            protocols: ['h2'],
          },
          upstreamTls: {
            ca: { files: [file('ca.pem', ...upstream, 'ca_path')], directories: [] },
            certificate: {
              certificate: file('c.pem', ...upstream, 'certificate_path'),
              key: file('c.key', ...upstream, 'key_path'),
            },
            serverName: undefined,
            minVersion: 'TLSv1.3',
            protocol: 'h2',
          },
          proxyProtocol: { acceptFrom: [], send: undefined },
          ...shared,
        },
      ],
      prometheusListenAddr: { host: '', port: 9237 },
      adminHosts: ['gitaly-a.internal', '*.gitlab.svc'],
      rpcs: [],
      audit: undefined,
      workers: 3,
      gracefulRestartTimeoutMs: 120_000,
      logging: {
        level: 'debug',
        format: 'text',
        rpc: { which: 'slow', slowMs: 1000, sampling: 0.5 },
      },
    });
  });

  it('has the documented defaults where it is silent', () => {
    const result = load(TLS + PAIR);
    const listener = onlyListener(result);
    expect(listener).toMatchObject({
      tls: {
        minVersion: 'TLSv1.2',
        clientAuth: 'none',
        clientCa: undefined,
        clientCrl: undefined,
        requireAlpn: true,
      },
      timeouts: {
        handshakeMs: 10_000,
        prefaceMs: 10_000,
        dialMs: 5000,
        halfCloseMs: 60_000,
        writeStallMs: 600_000,
        idleMs: 21_600_000,
      },
      maxConnections: 10_000,
      maxUnauthenticatedConnections: 5000,
      maxConnectionsPerSource: undefined,
      maxConnectionAge: undefined,
      abuseLimits: ABUSE_LIMITS,
      inspect: 'on',
      clientAllow: undefined,
      policy: undefined,
      upstreamToken: undefined,
      upstreamMetadata: [],
      proxyProtocol: { acceptFrom: [], send: undefined },
    });
    expect(result.configuration).toMatchObject({
      prometheusListenAddr: undefined,
      adminHosts: [],
      rpcs: [],
      audit: undefined,
      workers: 1,
      gracefulRestartTimeoutMs: 600_000,
      logging: { level: 'info', format: 'json' },
    });
  });

  it('may repeat itself by anchors', () => {
    const text =
      'listeners:\n  - &one\n    listen: tcp://127.0.0.1:0\n    forward: tcp://127.0.0.1:1\n  - *one\n';
    expect(load(text).configuration?.listeners).toHaveLength(2);
  });

  it('says the same as the flags', () => {
    const flags = {
      pairs: [
        { listen: 'tls://0.0.0.0:9999', forward: 'tcp://127.0.0.1:8075' },
        { listen: 'tcp://0.0.0.0:8076', forward: 'unix:/run/gitaly.socket' },
      ],
      cert: 'cert.pem',
      key: 'key.pem',
      clientCa: 'ca.pem',
      clientAuth: 'optional',
      prometheusListenAddr: '127.0.0.1:9237',
    };
    const fromFlags = configurationFromFlags(flags, { directory, env: {}, kindOf, textOf });
    const fromFile = load(`
tls: { certificate_path: cert.pem, key_path: key.pem, client_ca_path: ca.pem, client_auth: optional }
listeners:
  - { listen: "tls://0.0.0.0:9999", forward: "tcp://127.0.0.1:8075" }
  - { listen: "tcp://0.0.0.0:8076", forward: "unix:/run/gitaly.socket" }
prometheus_listen_addr: 127.0.0.1:9237
`);
    const withoutKeys = (result: LoadResult): unknown =>
      JSON.parse(
        JSON.stringify(result.configuration, (name, value: unknown) =>
          name === 'key' && Array.isArray(value) ? undefined : value,
        ),
      );
    expect(lines(fromFlags)).toEqual([]);
    expect(withoutKeys(fromFlags)).toEqual(withoutKeys(fromFile));
    expect(fromFlags.configuration?.listeners[0]).toMatchObject({
      key: ['--listen'],
      tls: {
        certificates: [{ certificate: { key: ['--cert'] }, key: { key: ['--key'] } }],
        clientCa: { files: [{ key: ['--client-ca'] }] },
      },
    });
  });
});

describe('pairs that speak HTTP', () => {
  it('the gate: ALPN for both versions and required of none, the internal API alone', () => {
    const { tls, http, upstreamTls } = onlyListener(
      load(`${TLS}listeners:\n  - listen: https://0.0.0.0:8443\n    forward: http://127.0.0.1:8181\n`),
    );
    expect(tls).toMatchObject({ protocols: ['h2', 'http/1.1'], requireAlpn: false });
    expect(http).toEqual({ paths: ['/api/v4/internal/'], clientCertificateHeaders: false });
    expect(upstreamTls).toBeUndefined();
  });

  it('egress: every path, TLS upstream for HTTP/1.1', () => {
    const { tls, http, upstreamTls } = onlyListener(
      load('listeners:\n  - listen: http://127.0.0.1:8180\n    forward: https://gitlab.example.com\n'),
    );
    expect(tls).toBeUndefined();
    expect(http).toEqual({ paths: undefined, clientCertificateHeaders: false });
    expect(upstreamTls).toMatchObject({ serverName: undefined, protocol: 'http/1.1' });
  });

  it('a unix socket on either side', () => {
    const { http } = onlyListener(
      load('listeners:\n  - listen: unix:/run/a\n    forward: http://gitlab\n    paths: [/a, /b/]\n'),
    );
    expect(http?.paths).toEqual(['/a', '/b/']);
    const pair = 'listeners:\n  - listen: https://[::1]:1\n    forward: unix:/run/b\n';
    expect(onlyListener(load(`${TLS}${pair}    client_certificate_headers: false\n`)).http).toBeDefined();
  });
});

describe('trust', () => {
  const upstream = 'listeners:\n  - listen: tcp://127.0.0.1:0\n    forward: tls://gitaly.:9999\n';

  it('is the system’s for an upstream when nobody names another', () => {
    expect(onlyListener(load(upstream)).upstreamTls).toEqual({
      ca: undefined,
      certificate: undefined,
      serverName: undefined,
      minVersion: 'TLSv1.2',
      protocol: 'h2',
    });
  });

  it('comes from SSL_CERT_FILE and the directories of SSL_CERT_DIR that exist', () => {
    const env = {
      SSL_CERT_FILE: join(directory, 'ca.pem'),
      SSL_CERT_DIR: `/nonexistent:${join(directory, 'ca.d')}`,
    };
    const trust = {
      files: [{ path: join(directory, 'ca.pem'), key: ['SSL_CERT_FILE'] }],
      directories: [{ path: join(directory, 'ca.d'), key: ['SSL_CERT_DIR'] }],
    };
    expect(onlyListener(load(upstream, env)).upstreamTls?.ca).toEqual(trust);
    // Never for clients: any public authority could issue certificates for them.
    for (const auth of ['require', 'optional']) {
      const server = `tls: { certificate_path: c, key_path: k, client_auth: ${auth} }\n${PAIR}`;
      const [line, ...others] = lines(load(server, env));
      expect(line).toContain('tls.client_auth: needs `client_ca_path`');
      expect(line).toContain('SSL_CERT_FILE, SSL_CERT_DIR and the public CAs are never used');
      expect(others).toEqual([]);
    }
  });

  it('does not fall back to the system’s when what the environment names is not there', () => {
    expect(lines(load(upstream, { SSL_CERT_FILE: '/nonexistent' }))).toEqual([
      'proxy.yaml: SSL_CERT_FILE: cannot read /nonexistent: no such file (got "/nonexistent")',
    ]);
    expect(lines(load(upstream, { SSL_CERT_DIR: '/nonexistent' }))).toEqual([
      'proxy.yaml: SSL_CERT_DIR: none of these directories exists (got "/nonexistent")',
    ]);
  });
});

describe('problems of a file', () => {
  const tcp = (rest: string): string => `listeners:\n  - listen: tcp://127.0.0.1:1\n${rest}`;
  const forward = '    forward: tcp://127.0.0.1:2\n';

  it.each<[string, string, string[]]>([
    [
      'empty',
      '',
      [
        'proxy.yaml: the file is empty: it needs at least `listeners`, a list of pairs of `listen` and `forward`',
      ],
    ],
    [
      'no map',
      '- a',
      [
        'proxy.yaml:1: the file is not a map of keys: it needs at least `listeners`, a list of pairs of `listen` and `forward`',
      ],
    ],
    [
      'no listeners',
      'logging: { level: info }',
      [
        'proxy.yaml:1: listeners: missing: expected a list, each entry with the keys `listen`, `forward`, `forward_by_server_name`, `tls`, `socket`, `inspect`, `client_allow`, `policy`, `upstream_token_path`, `upstream_metadata`, `proxy_protocol`, `upstream_tls`, `paths`, `client_certificate_headers`',
      ],
    ],
    ['no listener', 'listeners: []', ['proxy.yaml:1: listeners: expected at least one entry']],
    ['bad YAML', 'listeners:\n\t- a', ['proxy.yaml:2: not valid YAML: Tabs are not allowed as indentation']],
    [
      'a duplicate key',
      `${tcp(forward)}${forward}`,
      ['proxy.yaml:4: listeners[0].forward: the key is repeated: remove one of them'],
    ],
    [
      'an unknown key',
      `tls: { certificate_pat: a, key_path: b }\n${PAIR}`,
      ['proxy.yaml:1: tls.certificate_pat: unknown key `certificate_pat`; did you mean `certificate_path`?'],
    ],
    [
      'a misspelt required key',
      tcp('    forwrd: tcp://127.0.0.1:2\n'),
      ['proxy.yaml:3: listeners[0].forwrd: unknown key `forwrd`; did you mean `forward`?'],
    ],
    [
      'a key of another level',
      `${tcp(forward)}    client_auth: none\n`,
      ['proxy.yaml:4: listeners[0].client_auth: unknown key `client_auth`; it belongs under `tls`'],
    ],
    [
      'a top-level key elsewhere',
      `${tcp(forward)}    max_connections: 1\n`,
      [
        'proxy.yaml:4: listeners[0].max_connections: unknown key `max_connections`; it belongs at the top level of the file',
      ],
    ],
    [
      'a key like no other',
      `${tcp(forward)}zzz: 1\n`,
      [
        'proxy.yaml:4: zzz: unknown key `zzz`; the keys of the top level are `tls`, `listeners`, `prometheus_listen_addr`, `admin_hosts`, `workers`, `graceful_restart_timeout`, `logging`, `timeouts`, `max_connections`, `max_unauthenticated_connections`, `max_connections_per_source`, `abuse_limits`, `rpcs_path`, `audit_log_path`, `audit_required`, `health_check_interval`, `health_check_token_path`, `readiness_requires_upstream`, `max_connection_age`, `max_connection_age_grace`',
      ],
    ],
    [
      'limits on abuse below their minimum',
      `${tcp(forward)}abuse_limits:\n  resets: { rate: 0.5, burst: 9 }\n  small_frames: { burst: 1.5 }\n  oversized_headers: { rate: -1 }\n  header_list_bytes: 8191\n  calls_per_connection: 9\n  control_frames: 10\n`,
      [
        'proxy.yaml:5: abuse_limits.resets.rate: expected a number of at least 1 (got 0.5)',
        'proxy.yaml:5: abuse_limits.resets.burst: expected a whole number of at least 10 (got 9)',
        'proxy.yaml:6: abuse_limits.small_frames.burst: expected a whole number of at least 100 such as 10000 (got 1.5)',
        'proxy.yaml:7: abuse_limits.oversized_headers.rate: expected a number of at least 0 (got -1)',
        'proxy.yaml:8: abuse_limits.header_list_bytes: expected a whole number of at least 8192 (got 8191)',
        'proxy.yaml:9: abuse_limits.calls_per_connection: expected a whole number of at least 10 (got 9)',
        'proxy.yaml:10: abuse_limits.control_frames: expected a map with the keys `rate`, `burst` such as {"rate":33,"burst":1000} (got 10)',
      ],
    ],
    [
      'a limit on abuse that does not exist',
      `${tcp(forward)}abuse_limits:\n  resets: { per_second: 5 }\n  reset: { burst: 50 }\n`,
      [
        'proxy.yaml:5: abuse_limits.resets.per_second: unknown key `per_second`; the keys of `abuse_limits.resets` are `rate`, `burst`',
        'proxy.yaml:6: abuse_limits.reset: unknown key `reset`; did you mean `resets`?',
      ],
    ],
    [
      'a grace without an age',
      `${tcp(forward)}max_connection_age_grace: 1h\n`,
      ['proxy.yaml:4: max_connection_age_grace: has no effect without `max_connection_age`: set that too'],
    ],
    [
      'a value that `inspect` does not have',
      `${tcp(forward)}    inspect: maybe\n`,
      ['proxy.yaml:4: listeners[0].inspect: expected true, false or "required" (got "maybe")'],
    ],
    [
      'an age for connections that cannot be drained',
      `${tcp(forward)}    inspect: false\nmax_connection_age: 1h\n`,
      [
        'proxy.yaml:4: warning: listeners[0].inspect: connections cannot be drained after `max_connection_age`, because their calls are not followed: they are kept (got false)',
      ],
    ],
    [
      'a missing address',
      tcp(''),
      [
        'proxy.yaml:2: listeners[0].forward: missing: expected a string such as "tcp://127.0.0.1:8075", or `forward_by_server_name`',
      ],
    ],
    [
      'a bad address',
      tcp('    forward: https://gitlab:443\n'),
      [
        'proxy.yaml:3: listeners[0].forward: cannot forward from tcp://127.0.0.1:1 to https://gitlab: for HTTP, both must be https://, http:// or unix: (got "https://gitlab")',
      ],
    ],
    [
      'an address with a password',
      tcp('    forward: tcp://u:secret@h:1\n'),
      [
        'proxy.yaml:3: listeners[0].forward: an address must not contain a user or password: write tcp://host:8075',
      ],
    ],
    [
      'a key without value',
      tcp('    forward:\n'),
      [
        'proxy.yaml:3: listeners[0].forward: the key has no value: expected a string such as "tcp://127.0.0.1:8075" (got null)',
      ],
    ],
    [
      'a number for a text',
      `${tcp(forward)}graceful_restart_timeout: 60\n`,
      ['proxy.yaml:4: graceful_restart_timeout: expected a string such as "10m" (got 60)'],
    ],
    [
      'a bad duration',
      `${tcp(forward)}timeouts: { idle: "1d" }\n`,
      ['proxy.yaml:4: timeouts.idle: days are not supported: use hours, for example "24h" (got "1d")'],
    ],
    [
      'a bad choice',
      `${tcp(forward)}logging: { level: wran }\n`,
      [
        'proxy.yaml:4: logging.level: expected "debug", "info", "warn" or "error"; did you mean "warn"? (got "wran")',
      ],
    ],
    [
      'a bad number',
      `${tcp(forward)}max_connections: 0\n`,
      ['proxy.yaml:4: max_connections: expected a whole number of at least 1 (got 0)'],
    ],
    [
      'a bad boolean',
      `tls: { certificate_path: a, key_path: b, require_alpn: "no" }\n${PAIR}`,
      ['proxy.yaml:1: tls.require_alpn: expected true or false (got "no")'],
    ],
    [
      'a text for a map',
      `${tcp(forward)}logging: info\n`,
      [
        'proxy.yaml:4: logging: expected a map with the keys `level`, `format`, `rpc`, `rpc_sampling` (got "info")',
      ],
    ],
    [
      'a text for a list',
      tcp(`${forward}    proxy_protocol: { accept_from: 10.0.0.0/8 }\n`),
      [
        'proxy.yaml:4: listeners[0].proxy_protocol.accept_from: expected a list such as ["10.0.0.0/8"] (got "10.0.0.0/8")',
      ],
    ],
    [
      'a bad network',
      tcp(`${forward}    proxy_protocol:\n      accept_from:\n        - 10.0.0.0/8\n        - 10.0.0.0/40\n`),
      [
        'proxy.yaml:7: listeners[0].proxy_protocol.accept_from[1]: the prefix length of an IPv4 network must be 0 to 32, for example 10.0.0.0/32 (got "10.0.0.0/40")',
      ],
    ],
    [
      'an empty path',
      `tls: { certificate_path: "", key_path: k }\n${PAIR}`,
      ['proxy.yaml:1: tls.certificate_path: expected the path of a file, got an empty string (got "")'],
    ],
    [
      'no certificate',
      PAIR,
      [
        'proxy.yaml:2: listeners[0].listen: a tls:// listener needs a certificate and its key: set `certificate_path` and `key_path`',
      ],
    ],
    [
      'no key',
      `tls:\n  certificate_path: a\n${PAIR}`,
      ['proxy.yaml:1: tls.key_path: missing: `certificate_path` needs its key in `key_path`'],
    ],
    [
      'half a further pair',
      `tls: { certificate_path: a, key_path: b, certificates: [{ certificate_path: c }] }\n${PAIR}`,
      ['proxy.yaml:1: tls.certificates[0].key_path: missing: expected a string such as "other.key"'],
    ],
    [
      'client_auth without authorities',
      `tls: { certificate_path: a, key_path: b, client_auth: require }\n${PAIR}`,
      [
        'proxy.yaml:1: tls.client_auth: needs `client_ca_path`: the CAs that issue certificates for your clients (SSL_CERT_FILE, SSL_CERT_DIR and the public CAs are never used to verify clients) (got "require")',
      ],
    ],
    [
      'authorities that are not there',
      `tls: { certificate_path: a, key_path: b, client_auth: require, client_ca_path: /nonexistent }\n${PAIR}`,
      ['proxy.yaml:1: tls.client_ca_path: no such file: /nonexistent (got "/nonexistent")'],
    ],
    [
      'authorities without client_auth',
      `tls: { certificate_path: a, key_path: b, client_ca_path: ca.pem }\n${PAIR}`,
      [
        'proxy.yaml:1: tls.client_ca_path: clients would not be verified: `client_ca_path` needs `client_auth`: set it to require or optional (or none) (got "ca.pem")',
      ],
    ],
    [
      'a revocation list without effect',
      `tls: { certificate_path: a, key_path: b, client_auth: none, client_crl_path: x }\n${PAIR}`,
      [
        'proxy.yaml:1: warning: tls.client_crl_path: `client_crl_path` has no effect with `client_auth: none`: set that to require or optional (got "x")',
      ],
    ],
    [
      'authorities of a listener under a default of none',
      `tls: { certificate_path: a, key_path: b, client_auth: none }\n${PAIR}    tls: { client_ca_path: ca.pem }\n`,
      [
        'proxy.yaml:5: warning: listeners[0].tls.client_ca_path: `client_ca_path` has no effect with `client_auth: none`: set that to require or optional (got "ca.pem")',
      ],
    ],
    [
      'tls of a plaintext listener',
      tcp(`${forward}    tls: { client_auth: require }\n`),
      [
        'proxy.yaml:4: listeners[0].tls: `tls` is for tls:// and https:// listeners, but this one listens on tcp://127.0.0.1:1: remove it or listen with TLS',
      ],
    ],
    [
      'upstream_tls of a plaintext upstream',
      tcp(`${forward}    upstream_tls: {}\n`),
      [
        'proxy.yaml:4: listeners[0].upstream_tls: `upstream_tls` is for tls:// and https:// upstreams, but this one is tcp://127.0.0.1:2: remove it or forward with TLS',
      ],
    ],
    [
      'half a client certificate',
      tcp('    forward: tls://h:1\n    upstream_tls: { certificate_path: a }\n'),
      [
        'proxy.yaml:4: listeners[0].upstream_tls.key_path: missing: `certificate_path` needs its key in `key_path`',
      ],
    ],
    [
      'a client key alone',
      tcp('    forward: tls://h:1\n    upstream_tls: { key_path: a }\n'),
      [
        'proxy.yaml:4: listeners[0].upstream_tls.certificate_path: missing: `key_path` needs its certificate in `certificate_path`',
      ],
    ],
    [
      'a bad server name',
      tcp('    forward: tls://h:1\n    upstream_tls: { server_name: "a b" }\n'),
      [
        'proxy.yaml:4: listeners[0].upstream_tls.server_name: expected a host name such as gitaly-a.internal or an IP address (got "a b")',
      ],
    ],
    [
      'one address twice',
      `${tcp(forward)}  - listen: tcp://127.0.0.1:1\n${forward}`,
      [
        'proxy.yaml:4: listeners[1].listen: the address is already used by listeners[0].listen: choose another (got "tcp://127.0.0.1:1")',
      ],
    ],
    [
      'the admin port on a listener',
      `${tcp(forward)}prometheus_listen_addr: 127.0.0.1:1\n`,
      [
        'proxy.yaml:4: prometheus_listen_addr: the address is already used by listeners[0].listen: choose another (got "127.0.0.1:1")',
      ],
    ],
    [
      'a loop',
      tcp('    forward: tcp://127.0.0.1:1\n'),
      [
        'proxy.yaml:3: listeners[0].forward: forwards to its own `listen` address: write the address of the server behind it (got "tcp://127.0.0.1:1")',
      ],
    ],
    [
      'an https:// listener without a certificate',
      'listeners:\n  - listen: https://0.0.0.0:8443\n    forward: http://127.0.0.1:8181\n',
      [
        'proxy.yaml:2: listeners[0].listen: a https:// listener needs a certificate and its key: set `certificate_path` and `key_path`',
      ],
    ],
    [
      'HTTP to what speaks none',
      `${TLS}listeners:\n  - listen: https://0.0.0.0:8443\n    forward: tcp://127.0.0.1:8181\n`,
      [
        'proxy.yaml:4: listeners[0].forward: cannot forward from https://0.0.0.0:8443 to tcp://127.0.0.1:8181: for HTTP, both must be https://, http:// or unix: (got "tcp://127.0.0.1:8181")',
      ],
    ],
    [
      'keys of HTTP for a relay',
      `${tcp(forward)}    paths: [/]\n    client_certificate_headers: true\n`,
      [
        'proxy.yaml:4: listeners[0].paths: `paths` is for listeners that forward HTTP (https:// or http://), but this one does not: remove it',
        'proxy.yaml:5: listeners[0].client_certificate_headers: `client_certificate_headers` is for listeners that forward HTTP (https:// or http://), but this one does not: remove it',
      ],
    ],
    [
      'keys of a relay for HTTP',
      `${TLS}listeners:\n  - listen: https://0.0.0.0:8443\n    forward: http://127.0.0.1:8181\n    inspect: false\n    proxy_protocol: { send: v2 }\n    tls: { require_alpn: true }\n    client_certificate_headers: true\n`,
      [
        'proxy.yaml:5: listeners[0].inspect: `inspect` follows gRPC calls, but this listener forwards HTTP: remove it',
        'proxy.yaml:6: listeners[0].proxy_protocol.send: requests of several clients share a connection to the upstream, which receives their addresses in X-Forwarded-For: remove it',
        'proxy.yaml:7: listeners[0].tls.require_alpn: HTTP/1.1 does not need ALPN, and Gitaly as a client does not offer it: remove it',
        'proxy.yaml:8: listeners[0].client_certificate_headers: needs client certificates: listen on https:// and set `client_auth` to require or optional (got true)',
      ],
    ],
    [
      'paths that are not plain',
      'listeners:\n  - listen: http://127.0.0.1:1\n    forward: http://127.0.0.1:2\n    paths: [api, /a/../b, /a%2fb, //a, "/a;b"]\n',
      [
        'proxy.yaml:4: listeners[0].paths[0]: expected a path prefix that begins with a slash, for example /api/v4/internal/ (got "api")',
        ...['/a/../b', '/a%2fb', '//a', '/a;b'].map(
          (path, index) =>
            `proxy.yaml:4: listeners[0].paths[${index + 1}]: a path prefix must not contain %, ;, ?, #, \\, spaces, // or dot segments, for example /api/v4/internal/ (got "${path}")`,
        ),
      ],
    ],
    [
      'a network that is everybody',
      tcp(`${forward}    proxy_protocol: { accept_from: ["::/0"] }\n`),
      [
        'proxy.yaml:4: warning: listeners[0].proxy_protocol.accept_from[0]: every client could claim any address: list only the networks of the load balancers (got "::/0")',
      ],
    ],
    [
      'PROXY headers on a unix socket',
      `listeners:\n  - listen: unix:/a\n${forward}    proxy_protocol: { accept_from: ["::1"] }\n`,
      [
        'proxy.yaml:4: listeners[0].proxy_protocol.accept_from: clients of a unix socket have no network address: `accept_from` only works with a listener on a port',
      ],
    ],
    [
      'an address with a scheme for the admin port',
      `${tcp(forward)}prometheus_listen_addr: http://127.0.0.1:9\n`,
      [
        'proxy.yaml:4: prometheus_listen_addr: expected host:port without a scheme, for example 127.0.0.1:9237 (got "http://127.0.0.1:9")',
      ],
    ],
  ])('%s', (_name, text, expected) => {
    const result = load(text);
    expect(lines(result)).toEqual(expected);
    const isError = result.problems.some(({ severity }) => severity === 'error');
    expect(result.configuration === undefined).toBe(isError);
  });

  it('are all reported at once, in the order of the lines, each once', () => {
    const result = load(`
tls: { certificate_path: a, key_path: b, client_auth: require, client_ca_path: /nonexistent }
listeners:
  - listen: tls://0.0.0.0:9999
    forward: tcp://127.0.0.1
  - listen: tls://0.0.0.0:9998
    forward: tcp://127.0.0.1:8075
    upstream_tls: { ca_path: /nonexistent }
  - text
max_connections: 1.5
`);
    expect(result.problems.map(({ key }) => key.join('.'))).toEqual([
      'tls.client_ca_path',
      'listeners.0.forward',
      'listeners.1.upstream_tls',
      'listeners.2',
      'max_connections',
    ]);
    expect(result.configuration).toBeUndefined();
    // The certificates of what could be understood are looked at all the same.
    expect(result.understood?.listeners.map(({ tls }) => tls?.certificates.length)).toEqual([1, 1]);
  });

  it('never resolves an alias bomb, nor runs out of stack', () => {
    const levels = Array.from(
      { length: 9 },
      (_, level) =>
        `a${level + 1}: &a${level + 1} [${Array.from({ length: 9 }, () => `*a${level}`).join(', ')}]`,
    );
    expect(lines(load(`a0: &a0 x\n${levels.join('\n')}\n`))[0]).toContain('the file cannot be read as YAML');
    expect(load('['.repeat(50_000)).problems.length).toBeGreaterThan(0);
    expect(load('a: &a [*a]').configuration).toBeUndefined();
    expect(load('__proto__: { listeners: [] }').configuration).toBeUndefined();
  });
});

describe('problems of flags', () => {
  it('name the flags', () => {
    const result = configurationFromFlags(
      {
        pairs: [{ listen: 'tls://0.0.0.0:9999', forward: 'tcp://127.0.0.1' }],
        cert: 'cert.pem',
        clientCa: 'ca.pem',
        clientAuth: 'requre',
      },
      { directory, env: {}, kindOf, textOf },
    );
    expect(lines(result)).toEqual([
      '--client-auth: expected "none", "report", "optional" or "require"; did you mean "require"? (got "requre")',
      '--forward: the port is missing: write tcp://127.0.0.1:8075 (got "tcp://127.0.0.1")',
      '--key: missing: `--cert` needs its key in `--key`',
    ]);
  });

  it('include TLS flags that no listener would use', () => {
    const pairs = [{ listen: 'tcp://127.0.0.1:1', forward: 'tls://gitaly:9999' }];
    const result = configurationFromFlags(
      { pairs, cert: 'c', key: 'k' },
      { directory, env: {}, kindOf, textOf },
    );
    expect(lines(result)).toEqual([
      '--cert: has no effect, because no `--listen` is a tls:// or https:// address (got "c")',
      '--key: has no effect, because no `--listen` is a tls:// or https:// address (got "k")',
    ]);
  });
});

describe('readConfiguration', () => {
  it('reads a file, relative to itself', async () => {
    const file = join(directory, 'proxy.yaml');
    writeFileSync(file, TLS + PAIR);
    const result = await readConfiguration({ kind: 'file', file }, {});
    expect(onlyListener(result).tls?.certificates[0]?.key.path).toBe(join(directory, 'key.pem'));
  });

  it('reports a file that cannot be read', async () => {
    const missing = await readConfiguration({ kind: 'file', file: '/nonexistent.yaml' }, {});
    expect(lines(missing)).toEqual([
      '/nonexistent.yaml: the configuration file cannot be read: no such file',
    ]);
    const folder = await readConfiguration({ kind: 'file', file: directory }, {});
    expect(lines(folder)).toEqual([
      `${directory}: the configuration file cannot be read: it is a directory, not a file`,
    ]);
  });
});
