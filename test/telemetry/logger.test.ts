import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { LogSink } from '../../src/telemetry/log-sink.js';
import { createLogger } from '../../src/telemetry/logger.js';
import { CollectingSink } from './collecting-sink.js';

const JSON_LOG = { level: 'debug', format: 'json' } as const;

describe('a JSON line', () => {
  test('has the shape of Gitaly: level in the words of logrus, time in UTC, flat keys, the message last', () => {
    const sink = new CollectingSink();
    const log = createLogger(sink, JSON_LOG);
    for (const level of ['debug', 'info', 'warn', 'error'] as const)
      log[level]({ 'peer.address': '10.0.0.1:5000', 'bytes.to_client': 7, resumed: false }, 'a message');
    expect(sink.parsed).toEqual(
      ['debug', 'info', 'warning', 'error'].map((level) => ({
        level,
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
        'peer.address': '10.0.0.1:5000',
        'bytes.to_client': 7,
        resumed: false,
        msg: 'a message',
      })),
    );
    for (const line of sink.lines) expect(line).toMatch(/^\{[^\n]*\}\n$/);
  });

  test('leaves out what is not known', () => {
    const sink = new CollectingSink();
    createLogger(sink, JSON_LOG).info({ 'peer.identity': undefined, protocol: 'http2' }, 'x');
    expect(sink.lines[0]).not.toContain('peer.identity');
  });

  test('is one line that says what was given, whatever a peer puts in', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (value) => {
        const sink = new CollectingSink();
        createLogger(sink, JSON_LOG).info({ server_name: value }, 'x');
        expect(sink.lines).toHaveLength(1);
        const [line = ''] = sink.lines;
        expect(line.indexOf('\n')).toBe(line.length - 1);
        // Nothing that a terminal obeys, or that turns text around.
        expect(line.slice(0, -1)).not.toMatch(
          /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/,
        );
        expect(JSON.parse(line)).toHaveProperty('server_name');
      }),
    );
  });

  test('is bounded', () => {
    const sink = new CollectingSink();
    createLogger(sink, JSON_LOG).info({ server_name: 'x'.repeat(1 << 20) }, 'x');
    expect(sink.lines[0]?.length).toBeLessThan(10_000);
  });
});

test('the level decides what is written, from now on', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, { level: 'warn', format: 'json' });
  log.info({}, 'no');
  log.warn({}, 'yes');
  log.configure({ level: 'error', format: 'json' });
  log.warn({}, 'no');
  log.configure(JSON_LOG);
  log.debug({}, 'yes');
  expect(sink.parsed).toMatchObject([{ msg: 'yes' }, { msg: 'yes' }]);
});

test('a child has the fields of its parents, and follows the level of the log', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, { level: 'warn', format: 'json' });
  const child = log.child({ listener: 'tls://a:1' }).child({ server_name: 'a\u202eb' });
  child.info({}, 'no');
  log.configure(JSON_LOG);
  child.info({ count: 2 }, 'yes');
  log.configure({ level: 'error', format: 'json' });
  child.warn({}, 'no');
  expect(sink.parsed).toMatchObject([
    { level: 'info', listener: 'tls://a:1', server_name: 'a\\u202eb', count: 2, msg: 'yes' },
  ]);
});

test('a token, a cookie or a key that is passed as a field is not written', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, JSON_LOG);
  const secrets = {
    authorization: 'SECRET',
    'grpc.meta.authorization': 'SECRET',
    'grpc.meta.gitaly-servers': 'SECRET',
    'http.header.gitlab-shell-api-request': 'SECRET',
    'http.header.cookie': 'SECRET',
    token: 'SECRET',
    private_key: 'SECRET',
  };
  log.warn({ ...secrets, 'http.path': '/' }, 'x');
  log.child(secrets).info({}, 'y');
  expect(sink.lines).toHaveLength(2);
  expect(sink.lines.join()).not.toContain('SECRET');
  expect(sink.parsed).toMatchObject([{ authorization: '[redacted]', 'http.path': '/' }, { msg: 'y' }]);
});

test('text is for a terminal: one line, the level in words, the fields beside it', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, { level: 'info', format: 'text' });
  log.warn({ 'peer.address': '10.0.0.1:5000', server_name: 'a\n\u001b[31mb' }, 'client certificate refused');
  expect(sink.lines).toHaveLength(1);
  const [line = ''] = sink.lines;
  expect(line).toContain('WARNING');
  expect(line).toContain('client certificate refused');
  expect(line).toContain('10.0.0.1:5000');
  expect(line).not.toContain('\u001b');
  expect(line.trimEnd()).not.toContain('\n');
});

describe('lines that were dropped', () => {
  /** A sink that takes as many lines as it has room for and drops the others. */
  class BoundedSink implements LogSink {
    droppedLines = 0;
    #room: number;
    #text = '';

    constructor(room: number) {
      this.#room = room;
    }

    write(line: string): void {
      if (this.#room === 0) this.droppedLines++;
      else {
        this.#room--;
        this.#text += line;
      }
    }

    flush(): Promise<void> {
      return Promise.resolve();
    }

    makeRoom(room: number): void {
      this.#room = room;
    }

    /** How many lines each notice says are missing. */
    get gaps(): number[] {
      return [...this.#text.matchAll(/"lines":(\d+),"msg":"log lines were dropped/g)].map(([, lines]) =>
        Number(lines),
      );
    }
  }

  test('are told of once, with how many there were, when lines are taken again', () => {
    const sink = new BoundedSink(1);
    const log = createLogger(sink, JSON_LOG);
    for (let count = 0; count < 4; count++) log.info({}, 'x');
    expect(sink.gaps).toEqual([]);
    sink.makeRoom(Infinity);
    for (let count = 0; count < 3; count++) log.info({}, 'y');
    expect(sink.gaps).toEqual([3]);
  });

  test('are told of later where there is room for a line and not for the notice', () => {
    const sink = new BoundedSink(0);
    const log = createLogger(sink, JSON_LOG);
    log.info({}, 'x');
    sink.makeRoom(1);
    log.info({}, 'y');
    expect(sink.gaps).toEqual([]);
    sink.makeRoom(2);
    log.info({}, 'z');
    // The notice that found no room is a dropped line too.
    expect(sink.gaps).toEqual([2]);
  });
});
