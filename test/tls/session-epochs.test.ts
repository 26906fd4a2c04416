import { describe, expect, test } from 'vitest';

import { MAX_SESSION_EPOCH_MS } from '../../src/limits.js';
import { SessionEpochs } from '../../src/tls/session-epochs.js';

const START = Date.parse('2026-03-01T10:00:00Z');
const HOUR_MS = 3_600_000;
const start = { secret: Buffer.alloc(32, 7), sinceMs: START };

describe('SessionEpochs', () => {
  test('the secret changes exactly at each known date, whatever their order, and does not return', () => {
    const [first, second] = [START + HOUR_MS, START + 2 * HOUR_MS];
    const epochs = new SessionEpochs(start, [second, first, START - HOUR_MS]);
    const secrets = [START, first - 1, first, second - 1, second].map((now) => epochs.secretAt(now));
    expect(secrets[0]).toBe(start.secret);
    expect(secrets[1]).toBe(secrets[0]);
    expect(secrets[2]).not.toEqual(secrets[0]);
    expect(secrets[3]).toBe(secrets[2]);
    expect(new Set(secrets.map((secret) => Buffer.from(secret).toString('hex'))).size).toBe(3);
    // A clock that is set back brings no old key back.
    expect(epochs.secretAt(START)).toBe(secrets[4]);
  });

  test('without a date it changes once a day', () => {
    const epochs = new SessionEpochs(start, []);
    expect(epochs.secretAt(START + MAX_SESSION_EPOCH_MS - 1)).toBe(start.secret);
    const next = epochs.secretAt(START + MAX_SESSION_EPOCH_MS);
    expect(next).not.toEqual(start.secret);
    expect(epochs.secretAt(START + 2 * MAX_SESSION_EPOCH_MS - 1)).toBe(next);
    expect(epochs.secretAt(START + 2 * MAX_SESSION_EPOCH_MS)).not.toEqual(next);
  });

  test('processes agree on it, whenever they look and whenever they started', () => {
    const dates = [START + HOUR_MS, START + 30 * HOUR_MS];
    const [often, once] = [new SessionEpochs(start, dates), new SessionEpochs(start, dates)];
    for (let now = START; now < START + 40 * HOUR_MS; now += HOUR_MS / 4) often.secretAt(now);
    const now = START + 40 * HOUR_MS;
    expect(once.secretAt(now)).toEqual(often.secretAt(now));
    const late = new SessionEpochs(once.startAt(now), dates);
    expect(late.secretAt(now)).toEqual(often.secretAt(now));
    expect(late.endsAtMs).toBe(often.endsAtMs);
    expect(late.secretAt(now + 24 * HOUR_MS)).toEqual(often.secretAt(now + 24 * HOUR_MS));
  });

  test('an epoch ends earlier once an earlier end is known', () => {
    const epochs = new SessionEpochs(start, [START + 4 * HOUR_MS]);
    expect(epochs.endBy(START + 5 * HOUR_MS, START)).toBe(false);
    expect(epochs.endBy(Number.POSITIVE_INFINITY, START)).toBe(false);
    expect(epochs.endBy(Number.NaN, START)).toBe(false);
    expect(epochs.endBy(START + 2 * HOUR_MS, START)).toBe(true);
    expect(epochs.endBy(START + 2 * HOUR_MS, START)).toBe(false);
    expect(epochs.secretAt(START + 2 * HOUR_MS - 1)).toBe(start.secret);
    expect(epochs.secretAt(START + 2 * HOUR_MS)).not.toEqual(start.secret);
    expect(epochs.endsAtMs).toBe(START + 4 * HOUR_MS);
  });

  test('an end that an earlier epoch had met is not one of this epoch, and a later one is', () => {
    const epochs = new SessionEpochs(start, [START + HOUR_MS]);
    // Without a call in between, the first epoch is over although its end was not noticed.
    expect(epochs.endBy(START + HOUR_MS, START + 2 * HOUR_MS)).toBe(false);
    expect(epochs.endBy(START + 3 * HOUR_MS, START + 2 * HOUR_MS)).toBe(true);
    expect(epochs.endsAtMs).toBe(START + 3 * HOUR_MS);
  });
});
