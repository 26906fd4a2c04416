import { describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/config/cidr.js';
import { DURATION_PATTERN, parseDuration } from '../../src/config/duration.js';
import { nearest } from '../../src/config/nearest.js';

describe('parseDuration', () => {
  it.each([
    ['1m', 60_000],
    ['1h30m', 5_400_000],
    ['500ms', 500],
    ['10s', 10_000],
    ['1.5h', 5_400_000],
    ['.5s', 500],
    ['1.s', 1000],
    ['1000us', 1],
    ['1000µs', 1],
    ['1000000ns', 1],
    ['2h3m4.25s', 7_384_250],
    ['596h', 2_145_600_000],
  ])('reads %s', (text, ms) => {
    expect(parseDuration(text)).toEqual({ ok: true, value: ms });
    expect(text).toMatch(new RegExp(DURATION_PATTERN, 'u'));
  });

  it.each([
    ['', 'expected a duration such as'],
    ['10', 'a duration needs a unit, for example "10s" or "10m"'],
    ['1d', 'use hours, for example "24h"'],
    ['-1s', 'must be greater than zero'],
    ['0s', 'at least one millisecond'],
    ['1ns', 'at least one millisecond'],
    ['597h', 'must not exceed 596 hours'],
    ['1 m', 'expected a duration such as'],
    ['1m ', 'expected a duration such as'],
    ['m', 'expected a duration such as'],
    ['.s', 'expected a duration such as'],
    ['1..5s', 'expected a duration such as'],
    ['1M', 'expected a duration such as'],
  ])('refuses %j', (text, message) => {
    expect(parseDuration(text)).toEqual({ ok: false, message: expect.stringContaining(message) as string });
  });
});

describe('parseCidr', () => {
  it.each([
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['10.1.2.3', '10.1.2.3/32'],
    ['::1', '::1/128'],
    ['2001:db8::/32', '2001:db8::/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
  ])('reads %s', (text, network) => {
    expect(parseCidr(text)).toEqual({ ok: true, value: network });
  });

  it.each([
    '',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/',
    '10.0.0/8',
    'host/8',
    '10.0.0.0/8/8',
    'fe80::1%eth0',
    '10.0.0.0/-1',
  ])('refuses %j', (text) => {
    expect(parseCidr(text).ok).toBe(false);
  });
});

describe('nearest', () => {
  it.each([
    ['certificate_pat', 'certificate_path'],
    ['sevre', 'serve'],
    ['SERVE', 'serve'],
    ['key', undefined],
    ['v3', undefined],
  ])('%s → %s', (word, expected) => {
    expect(nearest(word, ['certificate_path', 'serve', 'v1', 'v2', 'proxy_protocol'])).toBe(expected);
  });
});
