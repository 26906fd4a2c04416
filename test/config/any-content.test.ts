import fc from 'fast-check';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { loadConfiguration } from '../../src/config/load.js';
import { kindOf, textOf } from '../support/path-kind.js';

const options = { file: 'proxy.yaml', directory: '/nonexistent', env: {}, kindOf, textOf };

/** Values that are near to right in some place of the file, so that every level of it is reached. */
const leaf = fc.constantFrom<unknown>(
  null,
  0,
  1.5,
  true,
  '',
  'tls://h:1',
  'tcp://h:1',
  'unix:/s',
  'TLS 1.3',
  'require',
  'v2',
  '1m',
  '10.0.0.0/8',
  'cert.pem',
);
const keys = [
  'listen',
  'forward',
  'forward_by_server_name',
  'default',
  '*.a',
  'tls',
  'certificates',
  'certificate_path',
  'key_path',
  'client_auth',
  'client_ca_path',
];
const more = [
  'proxy_protocol',
  'accept_from',
  'send',
  'upstream_tls',
  'server_name',
  'timeouts',
  'idle',
  'zzz',
  '__proto__',
];
const name = fc.constantFrom(...keys, ...more);
const { node } = fc.letrec<{ node: unknown }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie('node'), { maxLength: 3 }),
    fc.array(fc.tuple(name, tie('node')), { maxLength: 5 }).map((entries) => Object.fromEntries(entries)),
  ),
}));

it('whatever a file holds becomes a configuration or problems with a line', () => {
  fc.assert(
    fc.property(fc.array(node, { maxLength: 3 }), node, (listeners, tls) => {
      const text = stringify({ listeners, tls }, { aliasDuplicateObjects: false });
      const result = loadConfiguration(text, options);
      const errors = result.problems.filter(({ severity }) => severity === 'error');
      expect(result.configuration === undefined).toBe(errors.length > 0);
      for (const problem of result.problems) {
        expect(problem.line ?? result.locate(problem.key)).toBeGreaterThan(0);
        expect(problem.message).not.toMatch(/Invalid|undefined|object Object/u);
      }
    }),
    { numRuns: 500 },
  );
});

it('whatever text a file is, reading it does not throw', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      expect(loadConfiguration(text, options).configuration).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});
