import { expect, test } from 'vitest';

import { dateFault, describeDateFault, endOf, type Dated } from '../../src/x509/dated.js';

test('a certificate whose dates cannot be read is out of date, and can be described', () => {
  const unreadable = { from: new Date(Number.NaN), until: new Date(Number.NaN) };
  const dated: Dated = {
    role: 'client_ca',
    setting: { path: 'ca.pem', key: ['client_ca_path'] },
    name: 'the certificate of the CA CN=odd',
    periods: [unreadable],
  };
  expect(dateFault(dated, new Date())).toBe('expired');
  expect(describeDateFault(dated, 'expired').error).toContain('expired on an unknown date');
  expect(endOf(dated)).toBeUndefined();
  const end = new Date('2030-01-01T00:00:00Z');
  expect(endOf({ ...dated, periods: [unreadable, { from: new Date(0), until: end }] })).toEqual(end);
});
