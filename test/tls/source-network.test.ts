import fc from 'fast-check';
import { isIPv6, SocketAddress } from 'node:net';
import { expect, test } from 'vitest';

import { sourceNetwork } from '../../src/tls/client-sources.js';

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['::FFFF:c000:0207', '192.0.2.7'],
  ['0:0:0:0:0:ffff:192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:DB8:0001:2::', '2001:db8:1:2::/64'],
  ['2001:db8::5', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64%eth0'],
])('%s is of the network %s', (address, network) => {
  expect(sourceNetwork(address)).toBe(network);
});

test.each([undefined, '', 'localhost', '1.2.3', '2001:db8::1::2'])('%s is not an address', (address) => {
  expect(sourceNetwork(address)).toBeUndefined();
});

test('all spellings of an IPv6 address have the same network', () => {
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      fc.pre(isIPv6(address));
      const canonical = new SocketAddress({ address, family: 'ipv6' }).address;
      expect(sourceNetwork(address)).toBe(sourceNetwork(canonical));
    }),
  );
});

test('two addresses are of one network if their first 64 bits are the same', () => {
  const group = fc.integer({ min: 1, max: 0xffff }).map((value) => value.toString(16));
  const half = fc.array(group, { minLength: 4, maxLength: 4 }).map((groups) => groups.join(':'));
  fc.assert(
    fc.property(half, half, half, (network, one, other) => {
      expect(sourceNetwork(`${network}:${one}`)).toBe(sourceNetwork(`${network}:${other}`));
      if (network !== one)
        expect(sourceNetwork(`${network}:${other}`)).not.toBe(sourceNetwork(`${one}:${other}`));
    }),
  );
});
