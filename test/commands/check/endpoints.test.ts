import { expect, test } from 'vitest';

import { literalEndpoint } from '../../../src/commands/check/endpoints.js';
import { parseAddress } from '../../../src/config/address.js';

test.each([
  ['tls://10.0.0.1:9999', '10.0.0.1:9999'],
  ['tcp://[2001:db8::1]:8075', '[2001:db8::1]:8075'],
  ['unix:/run/gitaly.socket', 'unix:/run/gitaly.socket'],
  ['tls://gitaly.internal:9999', undefined],
])('check connects to %s without resolving a name: %s', (text, title) => {
  const result = parseAddress(text, 'forward');
  if (!result.ok) throw new Error(`not an address: ${text}`);
  expect(literalEndpoint(result.value)?.title).toBe(title);
});
