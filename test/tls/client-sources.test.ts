import { expect, test } from 'vitest';

import { FLIGHT_GUARD_MS, MAX_KNOWN_SOURCES, MAX_UNGUARDED_HANDSHAKES } from '../../src/limits.js';
import { ClientSources } from '../../src/tls/client-sources.js';

const [CLIENT, OTHER, STRANGER] = ['192.0.2.1', '192.0.2.2', '203.0.113.1'];

function knowing(...addresses: readonly string[]): ClientSources {
  const sources = new ClientSources();
  for (const address of addresses) sources.authenticated(address);
  return sources;
}

test('only the address of an authenticated client is trusted, in each of its spellings', () => {
  const sources = knowing(CLIENT, '2001:db8::1');
  for (const address of [CLIENT, `::ffff:${CLIENT}`, '2001:db8::ffff'])
    expect(sources.isTrusted(address, 0)).toBe(true);
  for (const address of [STRANGER, '2001:db8:0:1::1', 'not an address'])
    expect(sources.isTrusted(address, 0)).toBe(false);
});

test('a client without an address is guarded always', () => {
  const sources = new ClientSources();
  sources.authenticated(undefined);
  expect(sources.isTrusted(undefined, 0)).toBe(false);
  expect(sources.begin(undefined, 0)).toBeUndefined();
});

test('an attack from a known address makes it unknown, and all are guarded while the alarm lasts', () => {
  const sources = knowing(CLIENT, OTHER);
  sources.attackedFrom(CLIENT, true, 0);
  expect(sources.isTrusted(OTHER, FLIGHT_GUARD_MS - 1)).toBe(false);
  expect(sources.isTrusted(OTHER, FLIGHT_GUARD_MS)).toBe(true);
  expect(sources.isTrusted(CLIENT, FLIGHT_GUARD_MS)).toBe(false);
});

test('an attack that was refused before OpenSSL read it raises no alarm if its address is unknown', () => {
  const sources = knowing(CLIENT);
  sources.attackedFrom(STRANGER, true, 0);
  sources.attackedFrom(undefined, true, 0);
  expect(sources.isTrusted(CLIENT, 0)).toBe(true);
});

test('an attack that OpenSSL has read raises the alarm, even if its address has been forgotten meanwhile', () => {
  const sources = knowing(CLIENT);
  sources.attackedFrom(STRANGER, false, 0);
  expect(sources.isTrusted(CLIENT, FLIGHT_GUARD_MS - 1)).toBe(false);
});

test('an address that is known again during the alarm is trusted after it', () => {
  const sources = knowing(CLIENT);
  sources.attackedFrom(CLIENT, false, 0);
  sources.authenticated(CLIENT);
  expect(sources.isTrusted(CLIENT, FLIGHT_GUARD_MS - 1)).toBe(false);
  expect(sources.isTrusted(CLIENT, FLIGHT_GUARD_MS)).toBe(true);
});

test('the address that was used least recently is forgotten when there are too many', () => {
  const addresses = Array.from(
    { length: MAX_KNOWN_SOURCES },
    (_, index) => `10.0.${index >> 8}.${index & 255}`,
  );
  const sources = knowing(...addresses, '10.0.0.0', CLIENT);
  expect(sources.isTrusted('10.0.0.0', 0)).toBe(true);
  expect(sources.isTrusted('10.0.0.1', 0)).toBe(false);
  expect(sources.isTrusted('10.0.0.2', 0)).toBe(true);
  expect(sources.isTrusted(CLIENT, 0)).toBe(true);
});

test('concurrent handshakes of a known address are guarded beyond the limit, those of other addresses are not', () => {
  const sources = knowing(CLIENT, OTHER);
  const open = Array.from({ length: MAX_UNGUARDED_HANDSHAKES }, () => sources.begin(CLIENT, 0));
  expect(open).not.toContain(undefined);
  expect(sources.begin(CLIENT, 0)).toBeUndefined();
  expect(sources.begin(OTHER, 0)).toBeDefined();
  // Ending one twice must not admit two.
  open[0]?.end();
  open[0]?.end();
  expect(sources.begin(CLIENT, 0)).toBeDefined();
  expect(sources.begin(CLIENT, 0)).toBeUndefined();
});
