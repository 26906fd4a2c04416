import { expect, test } from 'vitest';

import { loadConfiguration } from '../../src/config/load.js';
import type { ListenerConfiguration } from '../../src/config/model.js';
import { keptParts } from '../../src/serving/reuse.js';
import type { ServedListener } from '../../src/serving/serving-plan.js';
import { kindOf, textOf } from '../support/path-kind.js';

/** A listener by its settings in the file, with `more` at the top level. */
function configured(settings: string, more = ''): ListenerConfiguration {
  const text = `tls: { certificate_path: cert.pem, key_path: key.pem }\nlisteners:\n  - { ${settings} }\n${more}`;
  const { configuration, problems } = loadConfiguration(text, {
    file: 'proxy.yaml',
    directory: '/etc',
    env: {},
    kindOf,
    textOf,
  });
  expect(problems).toEqual([]);
  const [listener] = configuration?.listeners ?? [];
  if (!listener) throw new Error('no listener');
  return listener;
}

function served(settings: string, fingerprint = 'first', more = ''): ServedListener {
  const configuration = configured(settings, more);
  return {
    listenerId: 1,
    configuration,
    server: undefined,
    upstream: undefined,
    upstreamToken: undefined,
    fingerprint,
  };
}

/** The names of the parts that a reload keeps. */
function kept(previous: ServedListener, next: ServedListener): string[] {
  const parts = keptParts(previous, next);
  return Object.entries(parts).flatMap(([name, isKept]) => (isKept ? [name] : []));
}

const HTTP = 'listen: https://0.0.0.0:8443, forward: http://127.0.0.1:8181';

const ALL = ['events', 'terminator', 'requests', 'pool'];

test.each([
  ['nothing', HTTP, 'first', ALL],
  ['a path', `${HTTP}, paths: [/api/v4/internal/]`, 'first', ALL],
  ['a certificate', HTTP, 'second', ['events', 'requests']],
  ['the upstream', HTTP.replace('8181', '8182'), 'first', ['events', 'terminator']],
  ['the address', HTTP.replace('8443', '8444'), 'first', ['terminator']],
])(
  'an HTTP listener, of which a reload changes %s, keeps what does not depend on it',
  (_change, settings, fingerprint, names) =>
    expect(kept(served(HTTP), served(settings, fingerprint))).toEqual(names),
);

test('an HTTP listener whose timeouts.dial changes opens new connections to its upstream', () => {
  const next = served(HTTP, 'first', 'timeouts: { dial: 1s }\n');
  expect(kept(served(HTTP), next)).toEqual(['events', 'terminator', 'requests']);
});

test('a listener that changes from gRPC to HTTP keeps its TLS sessions, and no counters or connections', () => {
  const next = served('listen: tcp://0.0.0.0:9999, forward: tcp://127.0.0.1:8075');
  const http = served('listen: http://0.0.0.0:9999, forward: http://127.0.0.1:8075').configuration;
  const sameAddress = { ...next, configuration: { ...http, listen: next.configuration.listen } };
  expect(kept(served('listen: tcp://0.0.0.0:9999, forward: tcp://127.0.0.1:8075'), sameAddress)).toEqual([
    'terminator',
  ]);
});
