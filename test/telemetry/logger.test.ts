import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { LogSink } from '../../src/telemetry/log-sink.js';
import { createLogger } from '../../src/telemetry/logger.js';
import { CollectingSink } from './collecting-sink.js';

const JSON_LOG = { level: 'debug', format: 'json' } as const;

const CLOSED = {
  listener: 'tls://a:1',
  'peer.address': '10.0.0.1:5000',
  protocol: 'http2',
  'tls.resumed': false,
  'bytes.to_upstream': 7,
  'bytes.to_client': 7,
  duration_ms: 1.5,
  'close.reason': 'finished',
  'close.initiator': 'client',
};

describe('a JSON line', () => {
  test('has the shape of Gitaly: level in the words of logrus, time in UTC, flat keys, the message last', () => {
    const sink = new CollectingSink();
    const log = createLogger(sink, JSON_LOG);
    log.log('connection_closed', { ...CLOSED, 'close.reason': 'probe' });
    log.log('connection_closed', CLOSED);
    log.log('signal_ignored', { signal: 'SIGUSR2', error: 'It is ignored.' });
    log.log('reload_failed', { error: 'It failed.' });
    expect(sink.parsed).toMatchObject(['debug', 'info', 'warning', 'error'].map((level) => ({ level })));
    expect(sink.parsed[1]).toEqual({
      ...CLOSED,
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
      event: 'connection_closed',
      msg: 'connection finished',
    });
    for (const line of sink.lines) expect(line).toMatch(/^\{"level":"\w+","time":[^\n]*,"msg":"[^"]*"\}\n$/);
  });

  test('leaves out what is not known', () => {
    const sink = new CollectingSink();
    createLogger(sink, JSON_LOG).log('connection_closed', { ...CLOSED, 'peer.identity': undefined });
    expect(sink.lines[0]).not.toContain('peer.identity');
  });

  test('is one line with the given fields, whatever a peer puts in them', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (value) => {
        const sink = new CollectingSink();
        createLogger(sink, JSON_LOG).log('connection_closed', { ...CLOSED, server_name: value });
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
    createLogger(sink, JSON_LOG).log('connection_closed', { ...CLOSED, server_name: 'x'.repeat(1 << 20) });
    expect(sink.lines[0]?.length).toBeLessThan(10_000);
  });
});

describe('level, text and fix', () => {
  test('come from the table, by the value of a field for some events', () => {
    const sink = new CollectingSink();
    const log = createLogger(sink, JSON_LOG);
    const refused = { listener: 'tls://a:1', 'peer.address': '10.0.0.1:5000', count: 1 };
    log.log('connection_closed', { ...CLOSED, 'close.reason': 'upstream_unreachable' });
    log.log('connection_refused', { ...refused, 'close.reason': 'descriptors' });
    log.log('inspection_lost', { ...refused, upstream: 'tcp://b:1', 'inspection.reason': 'frame' });
    expect(sink.parsed).toMatchObject([
      { level: 'error', msg: 'upstream cannot be reached', fix: expect.stringContaining('check') as string },
      { level: 'warning', msg: 'connections refused', fix: expect.stringContaining('ulimit -n') as string },
      { level: 'warning', error: expect.stringContaining('malformed HTTP/2') as string },
    ]);
  });

  test('give way to a fix that the caller knows better', () => {
    const sink = new CollectingSink();
    const fields = {
      listener: 'tls://a:1',
      role: 'server',
      file: 'a.pem',
      error: 'It has expired.',
      fix: 'Renew it.',
    };
    createLogger(sink, JSON_LOG).log('certificate_expired', fields);
    expect(sink.parsed).toMatchObject([fields]);
  });
});

test('the level decides what is written, from now on', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, { level: 'warn', format: 'json' });
  log.log('ready', {});
  log.log('debugger_open', {});
  log.configure({ level: 'error', format: 'json' });
  log.log('debugger_open', {});
  log.configure(JSON_LOG);
  log.log('reloaded', {});
  expect(sink.parsed).toMatchObject([{ event: 'debugger_open' }, { event: 'reloaded' }]);
});

test('fields that are bound are in every line, which follows the level of the log', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, { level: 'warn', format: 'json' });
  const { listener, ...others } = CLOSED;
  const closed = log.bind('connection_closed', { listener, server_name: 'a\u202eb' });
  closed(others);
  log.configure(JSON_LOG);
  closed(others, 'yes');
  log.configure({ level: 'error', format: 'json' });
  closed(others);
  expect(sink.parsed).toMatchObject([
    { ...CLOSED, level: 'info', event: 'connection_closed', server_name: 'a\\u202eb', msg: 'yes' },
  ]);
});

test('a token, a cookie or a key that gets among the fields is not written', () => {
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
  // The type of an event has no such field; a value with more fields than its type has is not refused everywhere.
  const closed = { ...CLOSED, ...secrets };
  log.log('connection_closed', closed);
  log.bind('connection_closed', closed)({});
  expect(sink.lines).toHaveLength(2);
  expect(sink.lines.join()).not.toContain('SECRET');
  expect(sink.parsed).toMatchObject([{ ...CLOSED, authorization: '[redacted]' }, CLOSED]);
});

test('text is for a terminal: one line with level, event and text, then what happened, the fix and the other fields', () => {
  const sink = new CollectingSink();
  const log = createLogger(sink, { level: 'info', format: 'text' });
  log.log('signal_ignored', { signal: 'a\n\u001b[31mb', error: 'It is ignored.' });
  expect(sink.lines).toHaveLength(1);
  const [line = ''] = sink.lines;
  expect(line).toMatch(
    /WARNING: signal_ignored: signal ignored \{"error":"It is ignored\.","fix":"Send SIGHUP .*","signal":"a/,
  );
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

    /** The number of missing lines in each notice. */
    get gaps(): number[] {
      return [...this.#text.matchAll(/"event":"log_lines_dropped".*"lines":(\d+)/g)].map(([, lines]) =>
        Number(lines),
      );
    }
  }

  test('are reported once, with their number, when lines are read again', () => {
    const sink = new BoundedSink(1);
    const log = createLogger(sink, JSON_LOG);
    for (let count = 0; count < 4; count++) log.log('ready', {});
    expect(sink.gaps).toEqual([]);
    sink.makeRoom(Infinity);
    for (let count = 0; count < 3; count++) log.log('ready', {});
    expect(sink.gaps).toEqual([3]);
  });

  test('are reported later if there is room for a line and not for the notice', () => {
    const sink = new BoundedSink(0);
    const log = createLogger(sink, JSON_LOG);
    log.log('ready', {});
    sink.makeRoom(1);
    log.log('ready', {});
    expect(sink.gaps).toEqual([]);
    sink.makeRoom(2);
    log.log('ready', {});
    // The notice that found no room is a dropped line too.
    expect(sink.gaps).toEqual([2]);
  });
});
