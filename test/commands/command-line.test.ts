import { describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../src/commands/command-line.js';

const parse = (line: string) => parseCommandLine(line === '' ? [] : line.split(' '));

describe('parseCommandLine', () => {
  const pairs = [{ listen: 'tls://a:1', forward: 'tcp://b:2' }];

  it.each<[string, object]>([
    ['serve --config a.yaml', { command: 'serve', source: { kind: 'file', file: 'a.yaml' } }],
    ['--config=a.yaml', { command: 'serve', source: { kind: 'file', file: 'a.yaml' } }],
    [
      '--listen tls://a:1 --forward tcp://b:2 --cert c --key k',
      { command: 'serve', source: { kind: 'flags', flags: { pairs, cert: 'c', key: 'k' } } },
    ],
    [
      'serve --listen tls://a:1 --listen tcp://c:3 --forward tcp://b:2 --forward unix:/d',
      {
        command: 'serve',
        source: { kind: 'flags', flags: { pairs: [...pairs, { listen: 'tcp://c:3', forward: 'unix:/d' }] } },
      },
    ],
    [
      '--forward tcp://b:2 --listen tls://a:1 --client-ca x --client-auth require --prometheus-listen-addr :1',
      {
        command: 'serve',
        source: {
          kind: 'flags',
          flags: { pairs, clientCa: 'x', clientAuth: 'require', prometheusListenAddr: ':1' },
        },
      },
    ],
    ['demo', { command: 'demo' }],
    ['configuration validate', { command: 'configuration validate', file: undefined }],
    ['configuration validate -', { command: 'configuration validate', file: undefined }],
    ['configuration validate a.yaml', { command: 'configuration validate', file: 'a.yaml' }],
    ['configuration validate -- --odd', { command: 'configuration validate', file: '--odd' }],
    ['--version', { command: 'version' }],
    ['-V', { command: 'version' }],
  ])('%s', (line, command) => {
    expect(parse(line)).toEqual(command);
  });

  it.each([
    ['--help', 'Commands:'],
    ['-h', 'Commands:'],
    ['help', 'Commands:'],
    ['serve --help', '--prometheus-listen-addr HOST:PORT'],
    ['serve --listen a -h', '--prometheus-listen-addr HOST:PORT'],
    ['demo --help', 'Usage: gitaly-tls-proxy demo'],
    ['configuration --help', 'validate [FILE]'],
    ['configuration validate --help', 'read from stdin'],
  ])('%s helps', (line, text) => {
    expect(parse(line)).toEqual({ command: 'print', text: expect.stringContaining(text) as string });
  });

  it.each([
    ['', 'serve --config FILE'],
    ['serve', 'serve --config FILE'],
    ['sevre', 'unknown command "sevre"; did you mean serve?'],
    ['frobnicate', 'unknown command "frobnicate"; see gitaly-tls-proxy --help'],
    ['--hepl', 'unknown flag --hepl; did you mean --help?'],
    [
      'serve --promethus-listen-addr :1',
      'unknown flag --promethus-listen-addr; did you mean --prometheus-listen-addr?',
    ],
    ['serve -x', 'unknown flag -x; see --help'],
    ['demo --cert c', 'unknown flag --cert; see --help'],
    ['demo now', 'demo takes flags only, not "now"'],
    ['serve a.yaml', 'serve takes flags only, not "a.yaml"'],
    ['--version=1', '--version takes no value'],
    ['--config', '--config needs a value'],
    ['--config=', '--config needs a value'],
    ['--cert --key k', '--cert needs a value'],
    ['--cert a --cert b', '--cert is given twice'],
    [
      '--config a --key k',
      '--config cannot be combined with other flags: move the value of --key into the file',
    ],
    ['--cert a --key k', '--listen and --forward are missing'],
    ['--listen a', '--listen a has no --forward: each --listen needs its --forward'],
    ['--forward a', '--forward a has no --listen'],
    ['--listen a --listen b --forward c', '--listen a has no --forward'],
    ['--listen a --forward b --listen c', '--listen c has no --forward'],
    ['configuration', 'configuration validate [FILE]'],
    [
      'configuration valdate',
      'unknown command "configuration valdate"; did you mean configuration validate?',
    ],
    ['configuration validate a b', 'configuration validate takes one FILE'],
    ['configuration validate --hlep', 'unknown flag --hlep; did you mean --help?'],
  ])('%s is refused', (line, message) => {
    expect(parse(line)).toEqual({
      command: 'usage error',
      message: expect.stringContaining(message) as string,
    });
  });
});
