import { expect, test } from 'vitest';

import { AuditGate } from '../../../src/policy/audit-gate.js';
import type { CallJudge, JudgedCall } from '../../../src/policy/call-judge.js';
import { AuditTrail } from '../../../src/telemetry/audit/audit-trail.js';
import type { LogSink } from '../../../src/telemetry/log-sink.js';

/** Takes lines while it has room. */
class BoundedSink implements LogSink {
  droppedLines = 0;
  room = Number.POSITIVE_INFINITY;
  readonly events: string[] = [];

  write(lines: string): void {
    const bodies = lines.trimEnd().split('\n');
    if (this.room < bodies.length) this.droppedLines += bodies.length;
    else {
      this.room -= bodies.length;
      for (const body of bodies) this.events.push(body.replace(/"time":"[^"]+",?/u, ''));
    }
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }
}

function start(isRequired: boolean) {
  const sink = new BoundedSink();
  const blocked: boolean[] = [];
  let dropped = 0;
  const trail = new AuditTrail((lines) => (dropped += lines));
  trail.onBlocked = (isBlocked) => blocked.push(isBlocked);
  trail.configure(sink, isRequired);
  return { sink, trail, blocked, dropped: () => dropped };
}

test('dropped lines are counted, and their number is in the line before the next one', () => {
  const { sink, trail, dropped } = start(false);
  sink.room = 1;
  for (let call = 1; call <= 4; call++) trail.write('call', { call });
  expect([sink.events, dropped()]).toEqual([['{"event":"call","call":1}'], 3]);
  sink.room = 10;
  trail.write('call', { call: 5 });
  expect(sink.events.slice(1)).toEqual(['{"event":"dropped","lines":3}', '{"event":"call","call":5}']);
  trail.write('call', { call: 6 });
  expect(sink.events).toHaveLength(4);
});

test('with audit_required, calls must be refused while lines cannot be written, and not otherwise', () => {
  const { sink, trail, blocked } = start(true);
  expect(trail.mustRefuse).toBe(false);
  trail.setFailing(true);
  trail.setFailing(true);
  expect(trail.mustRefuse).toBe(true);
  trail.setFailing(false);
  expect(trail.mustRefuse).toBe(false);
  sink.room = 0;
  trail.write('call', {});
  expect(trail.mustRefuse).toBe(true);
  sink.room = 10;
  trail.write('refused', {});
  expect(trail.mustRefuse).toBe(false);
  expect(blocked).toEqual([true, false, true, false]);
});

test('without audit_required, no call is refused', () => {
  const { trail } = start(false);
  trail.setFailing(true);
  expect(trail.mustRefuse).toBe(false);
});

test('nothing is written without an audit log', () => {
  const { sink, trail } = start(false);
  trail.configure(undefined, false);
  trail.write('call', {});
  expect([trail.isOn, sink.events]).toEqual([false, []]);
});

test('a call that must be refused does not reach the policy, and the others do', () => {
  const asked: string[] = [];
  const inner: CallJudge = {
    judge: ({ path }) => {
      asked.push(path);
      return { kind: 'forward', fields: Buffer.alloc(0) };
    },
  };
  const gate = new AuditGate(inner, (path) => path === '/write');
  const call = (path: string): JudgedCall => ({
    path,
    correlationId: undefined,
    hasAuthorization: false,
    reservedField: undefined,
  });
  expect(gate.judge(call('/write'), 0)).toMatchObject({ kind: 'refuse', code: 14 });
  expect(gate.judge(call('/read'), 0)).toMatchObject({ kind: 'forward' });
  expect(asked).toEqual(['/read']);
});
