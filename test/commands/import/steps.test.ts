import { expect, test } from 'vitest';

import { importConfiguration } from '../../../src/commands/import/import-configuration.js';

/** The steps as they are printed, each on one line. */
function steps(text: string): string[] {
  const result = importConfiguration(text, {
    name: 'FILE',
    only: undefined,
    socketDirectory: '/run/sockets',
  });
  const [head = ''] = result.text.split('\n\n');
  return head
    .split(/^# (?=\d+\. )/mu)
    .slice(1)
    .map((step) => step.replaceAll(/\s*\n# */gu, ' ').trim());
}

/** Expects one step for each pattern, in this order. */
function expectSteps(text: string, patterns: readonly RegExp[]): void {
  const found = steps(text);
  expect(found.map((_step, index) => `${index + 1}`)).toEqual(
    patterns.map((_pattern, index) => `${index + 1}`),
  );
  for (const [index, step] of found.entries()) {
    expect(step.startsWith(`${index + 1}.`)).toBe(true);
    expect(step).toMatch(patterns[index] ?? /^$/u);
  }
}

test("Gitaly's TLS is given up after all of its clients have gone, and the proxy takes the port before they come back", () => {
  expectSteps(`tls_listen_addr = "0.0.0.0:9999"\n`, [
    /let Gitaly listen on loopback, and leave tls_listen_addr .* listen_addr = "127\.0\.0\.1:8075"/u,
    /save this as \/etc\/gitaly-tls-proxy\.yaml, and run a copy that listens on port 9998.* configuration validate .* serve .* check --through \/etc\/gitaly-tls-proxy-9998\.yaml/u,
    /reaches the copy and trusts its certificate.* openssl s_client -connect HOST:9998 .* gitaly-tls-proxy check tls:\/\/HOST:9998/u,
    /Rails and Sidekiq nodes.* one node after another: port 9998 in place of 9999/u,
    /wait until no client is connected to Gitaly's own port.*sport = :9999/u,
    /remove tls_listen_addr from Gitaly's configuration/u,
    /start the proxy itself, which listens on port 9999.* check --through \/etc\/gitaly-tls-proxy\.yaml/u,
    /one node after another: back to port 9999.* stop the copy as soon as the first command prints nothing/u,
  ]);
});

test('where Gitaly is on loopback already, it is left alone until its clients have gone', () => {
  const [first = ''] = steps(`tls_listen_addr = "0.0.0.0:9999"\nlisten_addr = "127.0.0.1:8075"\n`);
  expect(first).toMatch(/run a copy/u);
});

test("clients on plaintext move to Gitaly's own TLS before its plaintext address changes", () => {
  const found = steps(`tls_listen_addr = "0.0.0.0:9999"\nlisten_addr = "0.0.0.0:8075"\n`);
  expect(found[0]).toMatch(
    /still use plaintext .*curl -s http:\/\/127\.0\.0\.1:9236\/metrics \| grep '\^gitaly_connections_total\{type="tcp"\}'.*sport = :8075/u,
  );
  expect(found[1]).toMatch(/listen_addr = "127\.0\.0\.1:8076"/u);
  expect(found.at(-1)).toMatch(/remove the plaintext listener/u);
});

test('a Gitaly without TLS: trust comes before addresses, and the plaintext address goes last', () => {
  expectSteps(`listen_addr = "0.0.0.0:8075"\nsocket_path = "/run/gitaly.socket"\n`, [
    /certificate and its key.*subject alternative name/u,
    /without the plaintext listener.*, and start the proxy. Leave Gitaly unchanged/u,
    /CA of the certificate in the trust store.*trusted-certs.* check tls:\/\/HOST:9999/u,
    /one node after another.*tcp:\/\/HOST:8075\s+becomes\s+tls:\/\/HOST:9999/u,
    /wait until no client on another node uses the plaintext address/u,
    /let Gitaly listen on loopback only.*listen_addr = "127\.0\.0\.1:8076"/u,
    /add the plaintext listener/u,
    /returned 0 or nothing for a day: remove the plaintext listener.*gitaly_tls_proxy_connections_total\{listener="tcp:\/\/0\.0\.0\.0:8075",protocol!="unknown"\}\[1d\]/u,
  ]);
});

test('clients: the sockets are on all nodes before the first address changes, and plaintext becomes TLS without them', () => {
  expectSteps(`production: { repositories: { storages: { a: { gitaly_address: 'tcp://g:8075' } } } }\n`, [
    /each node with clients.* and the Gitaly nodes: .* All of them need the sockets before the first address changes/u,
    /uncomment upstream_tls.* check --through \/etc\/gitaly-tls-proxy\.yaml/u,
    /one after another.*'a' => \{ 'gitaly_address' => 'unix:\/run\/sockets\/a\.socket' \}/u,
    /From plaintext to TLS.*forward: tls:\/\/g:9999/u,
    /client_auth: optional .* and client_auth: require when this counter no longer grows/u,
  ]);
});

test('whoever has no Omnibus is told what to do instead, wherever a client changes', () => {
  const files = [
    `tls_listen_addr = "0.0.0.0:9999"\n`,
    `listen_addr = "0.0.0.0:8075"\n`,
    `production: { repositories: { storages: { a: { gitaly_address: 'tls://g:9999' } } } }\n`,
  ];
  for (const step of files.flatMap(steps).filter((one) => one.includes('gitlab-ctl')))
    expect(step).toMatch(/without Omnibus|config\.toml/u);
});

test("Praefect's steps name its own counter, and its Gitalys", () => {
  const text = `listen_addr = "0.0.0.0:2305"\ntls_listen_addr = "0.0.0.0:3305"\n[[virtual_storage]]\nname = "default"\n[[virtual_storage.node]]\nstorage = "g1"\naddress = "tls://g1:9999"\n`;
  const all = steps(text).join('\n');
  expect(all).toContain('gitaly_praefect_connections_total{type="tcp"}');
  expect(all).toContain("{ storage: 'g1', address: 'unix:/run/sockets/g1.socket', token: … }");
  expect(all).toContain('gitaly_address of the storages of this Praefect');
});
