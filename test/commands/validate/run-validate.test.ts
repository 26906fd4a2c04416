import { describe, expect, it } from 'vitest';
import { validateConfiguration } from '../../../src/commands/validate/run-validate.js';
import type { Problem } from '../../../src/config/model.js';

const GOOD = `tls: { certificate_path: cert.pem, key_path: key.pem }
listeners:
  - listen: tls://127.0.0.1:0
    forward: tcp://127.0.0.1:8075
`;

async function validate(stdin: string, fileProblems: readonly Problem[] = [], file?: string) {
  const looked: string[] = [];
  let stdout = '';
  let stderr = '';
  const io = {
    env: {},
    directory: '/etc/proxy',
    readStdin: () => Promise.resolve(Buffer.from(stdin)),
    writeStdout: (text: string) => void (stdout += text),
    writeStderr: (text: string) => void (stderr += text),
  };
  const exitCode = await validateConfiguration(file, io, (configuration) => {
    looked.push(
      ...configuration.listeners.flatMap(({ tls }) => tls?.certificates ?? []).map(({ key }) => key.path),
    );
    return Promise.resolve(fileProblems);
  });
  return { exitCode, stdout, stderr, looked };
}

describe('configuration validate', () => {
  it('prints nothing when all is well', async () => {
    expect(await validate(GOOD)).toEqual({
      exitCode: 0,
      stdout: '',
      stderr: '',
      looked: ['/etc/proxy/key.pem'],
    });
  });

  it('prints all errors as JSON, those of the certificate files too', async () => {
    const mismatch: Problem = {
      severity: 'error',
      key: ['tls', 'key_path'],
      message: 'not the key of the certificate',
    };
    const { exitCode, stdout, stderr, looked } = await validate(`${GOOD}max_connections: 0\n`, [mismatch]);
    expect(exitCode).toBe(2);
    expect(stderr).toBe('');
    expect(looked).toEqual(['/etc/proxy/key.pem']);
    expect(JSON.parse(stdout)).toEqual({
      errors: [
        {
          key: ['max_connections'],
          message: 'expected a whole number of at least 1',
          line: 5,
          value: 0,
          file: '<stdin>',
        },
        { key: ['tls', 'key_path'], message: 'not the key of the certificate', line: 1, file: '<stdin>' },
      ],
    });
  });

  it('prints warnings on stderr and succeeds', async () => {
    const open: Problem = { severity: 'warning', key: ['tls', 'key_path'], message: 'readable by others' };
    expect(await validate(GOOD, [open])).toMatchObject({
      exitCode: 0,
      stdout: '',
      stderr: '<stdin>:1: warning: tls.key_path: readable by others\n',
    });
  });

  it('reports a file that is not there', async () => {
    const { exitCode, stdout } = await validate('', [], '/nonexistent.yaml');
    expect(exitCode).toBe(2);
    expect(JSON.parse(stdout)).toEqual({
      errors: [
        {
          key: [],
          message: 'the configuration file cannot be read: no such file',
          file: '/nonexistent.yaml',
        },
      ],
    });
  });
});
