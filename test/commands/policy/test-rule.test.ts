import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { parseCommandLine } from '../../../src/commands/command-line.js';
import { runPolicyTest } from '../../../src/commands/policy/test-rule.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const FIND = 'gitaly.RefService/FindBranch';
const DELETE = 'gitaly.RefService/DeleteRefs';
const RULES =
  'rules: [{ name: indexer, identities: ["dns:indexer.internal"], allow: [accessor], max_calls: 1 }]';

function listener(settings: string, port = 9999): string {
  return `{ listen: "tls://0.0.0.0:${port}", forward: "tcp://127.0.0.1:8075", ${settings} }`;
}

function tls(clientAuth: string): string {
  return `tls: { client_auth: ${clientAuth}, client_ca_path: ca.pem }`;
}

/** Runs the command on a file with these listeners. */
async function decide(listeners: readonly string[], ...args: readonly string[]) {
  const directory = await temporaryDirectory();
  const file = join(directory, 'proxy.yaml');
  await writeFile(join(directory, 'ca.pem'), '');
  await writeFile(
    file,
    `{ tls: { certificate_path: c, key_path: k }, listeners: [${listeners.join(', ')}] }`,
  );
  const command = parseCommandLine(['policy', 'test', file, ...args, '--json']);
  if (command.command !== 'policy test') throw new Error(JSON.stringify(command));
  let [stdout, stderr] = ['', ''];
  const code = await runPolicyTest(command.request, {
    env: {},
    writeStdout: (text) => (stdout += text),
    writeStderr: (text) => (stderr += text),
  });
  return { code, stderr, result: stdout === '' ? undefined : (JSON.parse(stdout) as unknown) };
}

const INDEXER = ['--identity', 'dns:indexer.internal', '--identity', 'cn:indexer'];

describe('policy test', () => {
  test('exits with 0 if a rule allows the call, and names the rule', async () => {
    const only = [listener(`${tls('require')}, policy: { ${RULES} }`)];
    expect(await decide(only, ...INDEXER, '--rpc', `/${FIND}`)).toMatchObject({
      code: 0,
      result: { allowed: true, rule: 'indexer', operation: 'accessor', message: 'rule "indexer" allows it' },
    });
  });

  test('exits with 1 if the call is denied, with the message for the client', async () => {
    const only = [listener(`${tls('require')}, policy: { ${RULES} }`)];
    expect(await decide(only, ...INDEXER, '--rpc', DELETE)).toMatchObject({
      code: 1,
      result: {
        allowed: false,
        rule: 'indexer',
        operation: 'mutator',
        code: 'PermissionDenied',
        message: expect.stringContaining(`dns:indexer.internal may not call ${DELETE}`) as string,
      },
    });
    const reported = [listener(`${tls('require')}, policy: { mode: report, ${RULES} }`)];
    expect(await decide(reported, ...INDEXER, '--rpc', DELETE)).toMatchObject({
      code: 1,
      result: { allowed: false, mode: 'report' },
    });
  });

  test('applies client_auth and client_allow before the policy', async () => {
    const require = [listener(`${tls('require')}, policy: { ${RULES} }`)];
    expect(await decide(require, '--rpc', FIND)).toMatchObject({
      code: 1,
      result: { code: 'Unauthenticated' },
    });
    const allow = [listener(`${tls('optional')}, client_allow: ["dns:rails"]`)];
    expect(await decide(allow, ...INDEXER, '--rpc', FIND)).toMatchObject({
      code: 1,
      result: { code: 'PermissionDenied', message: expect.stringContaining('client_allow') as string },
    });
    expect(await decide(allow, '--identity', 'dns:rails', '--rpc', FIND)).toMatchObject({ code: 0 });
  });

  test('exits with 2 if the file is invalid, or if the listener is not clear', async () => {
    expect(await decide([listener('nonsense: 1')], '--rpc', FIND)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('nonsense') as string,
    });
    const two = [listener(tls('optional')), listener(tls('optional'), 9998)];
    expect(await decide(two, '--rpc', FIND)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--listener') as string,
    });
    expect(await decide(two, '--rpc', FIND, '--listener', 'tls://0.0.0.0:9998')).toMatchObject({ code: 0 });
    expect(await decide(two, '--rpc', FIND, '--listener', 'tls://0.0.0.0:1')).toMatchObject({ code: 2 });
  });
});

test.each([
  ['policy suggest', 'needs --from'],
  ['policy suggest --from 127.0.0.1:9237', 'expected the URL'],
  ['policy suggest --from http://127.0.0.1:9237 --allow all', 'expected rpcs, services, operations'],
  ['policy test --rpc gitaly.RefService/FindBranch', 'needs a FILE'],
  ['policy test proxy.yaml', 'needs --rpc'],
  ['policy test proxy.yaml --rpc accessor', 'expected one RPC'],
  ['policy test proxy.yaml --rpc gitaly.RefService/*', 'expected one RPC'],
  ['policy test proxy.yaml --rpc a.B/C --identity rails', 'expected a name that begins with'],
  ['policy test proxy.yaml --rpc a.B/C --identity *', 'expected one identity'],
  ['configuration rehearse --from http://127.0.0.1:9237', 'needs a FILE'],
  ['configuration rehearse new.yaml', 'needs --from'],
])('%s is a usage error: %s', (line, message) => {
  expect(parseCommandLine(line.split(' '))).toMatchObject({
    command: 'usage error',
    message: expect.stringContaining(message) as string,
  });
});
