import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { renderJsonSchema } from '../../src/config/json-schema.js';
import { loadConfiguration } from '../../src/config/load.js';
import { kindOf, textOf } from '../support/path-kind.js';

function read(name: string): string {
  return readFileSync(fileURLToPath(new URL(`../../config/${name}`, import.meta.url)), 'utf8');
}

const options = { file: 'example.yaml', directory: '/etc/gitaly-tls-proxy', env: {}, kindOf, textOf };

it('the committed JSON Schema is current (else: npm run schema)', () => {
  expect(read('gitaly-tls-proxy.schema.json')).toBe(renderJsonSchema());
});

it('the JSON Schema describes every key', () => {
  const undescribed: string[] = [];
  const visit = (schema: unknown, path: string): void => {
    if (typeof schema !== 'object' || schema === null) return;
    if ('properties' in schema && typeof schema.properties === 'object' && schema.properties !== null) {
      for (const [key, value] of Object.entries(schema.properties)) {
        const property: unknown = value;
        const described = typeof property === 'object' && property !== null && 'description' in property;
        if (!described) undescribed.push(`${path}.${key}`);
        visit(property, `${path}.${key}`);
      }
    }
    if ('items' in schema) visit(schema.items, `${path}[]`);
  };
  visit(JSON.parse(renderJsonSchema()), '');
  expect(undescribed).toEqual([]);
});

it('the example loads', () => {
  const result = loadConfiguration(read('gitaly-tls-proxy.example.yaml'), options);
  expect(result.problems).toEqual([]);
  expect(result.configuration?.listeners).toHaveLength(2);
});

it('what the example holds in comments loads too, and its defaults are the defaults', () => {
  const example = read('gitaly-tls-proxy.example.yaml');
  // A commented setting is a dash or a key; prose is neither.
  const setting = /^( *)# ( *(?:- )?[a-z_]+:(?: .*)?)$/gmu;
  const examplesOnly = /client_ca_path|client_crl_path|ca_path/u;
  const full = example.replace(setting, (line, indent: string, text: string) =>
    / .*: [A-Z]?[a-z]+ .*\.$/u.test(text) || examplesOnly.test(text) ? line : indent + text,
  );
  const result = loadConfiguration(full, options);
  expect(result.problems).toEqual([]);
  const silent = loadConfiguration(example, options);
  // Whether upstreams are checked has no default that could be written: they are not.
  const { listeners, healthChecks, adminHosts, ...rest } = result.configuration ?? {};
  const {
    listeners: silentListeners,
    healthChecks: silentChecks,
    adminHosts: silentHosts,
    ...silentRest
  } = silent.configuration ?? {};
  expect(adminHosts).toHaveLength(2);
  expect(silentHosts).toEqual([]);
  expect(rest).toEqual(silentRest);
  expect(silentChecks).toBeUndefined();
  expect(healthChecks?.readinessRequiresUpstream).toBe(false);
  expect(listeners).toHaveLength(6);
  expect(listeners?.[2]?.timeouts).toEqual(silentListeners?.[1]?.timeouts);
});
