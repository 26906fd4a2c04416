import { expect, onTestFinished, test } from 'vitest';

import { createLogger } from '../../src/telemetry/logger.js';
import type { Dated } from '../../src/x509/dated.js';
import { ValidityWatch } from '../../src/serving/validity-watch.js';
import { CollectingSink } from '../telemetry/collecting-sink.js';

const FROM = new Date('2026-03-01T00:00:00Z');
const UNTIL = new Date('2026-03-02T00:00:00Z');
const LISTENER = 'tls://127.0.0.1:9999';

function dated(role: Dated['role'], ...periods: Dated['periods']): Dated {
  return { role, setting: { path: '/etc/file.pem', key: [] }, name: 'the certificate of CN=x', periods };
}

test('what expires or becomes valid is logged once, when it happens, and is counted', () => {
  const sink = new CollectingSink();
  let now = new Date(FROM.getTime() - 1000);
  const watch = new ValidityWatch(createLogger(sink, { level: 'info', format: 'json' }), () => now);
  onTestFinished(() => {
    watch.stop();
  });
  const at = (date: Date): string[] => {
    now = date;
    const before = sink.lines.length;
    watch.check();
    watch.check();
    return sink.lines.slice(before).map(String);
  };
  const renewed = { from: new Date('2026-01-01T00:00:00Z'), until: new Date('2027-01-01T00:00:00Z') };
  watch.configure([
    { listener: LISTENER, dated: dated('server', { from: FROM, until: UNTIL }) },
    // A CA that was renewed under its name is valid as long as one of its certificates is.
    { listener: LISTENER, dated: dated('client_ca', { from: FROM, until: UNTIL }, renewed) },
    { listener: LISTENER, dated: dated('client_crl', { from: renewed.from, until: undefined }) },
  ]);
  expect(sink.lines).toHaveLength(1);
  expect(String(sink.lines[0])).toMatch(
    /"level":"warning".*"error":"\/etc\/file\.pem: the certificate of CN=x is not valid before 2026-03-01T00:00:00\.000Z: clients refuse to connect\.","fix":"Correct the clock/,
  );
  const counts = (): number[] => watch.outOfDate().map(({ count }) => count);
  expect(counts()).toEqual([1, 0, 0]);

  expect(at(FROM)).toEqual([expect.stringMatching(/"level":"info".*"event":"certificate_valid_again"/)]);
  expect(counts()).toEqual([0, 0, 0]);
  expect(at(new Date(UNTIL.getTime() - 1))).toEqual([]);
  expect(at(UNTIL)).toEqual([
    expect.stringMatching(
      /"level":"warning".*expired on 2026-03-02T00:00:00\.000Z.*"fix":"Renew the certificate/,
    ),
  ]);
  expect(counts()).toEqual([1, 0, 0]);
  expect(at(renewed.until)).toEqual([
    expect.stringMatching(/expired on 2027-01-01T00:00:00\.000Z: the clients of this CA are refused/),
  ]);
});
