import { expect, test } from 'vitest';

import { gitalyAuthorization } from '../../src/gitaly-client/gitaly-token.js';

test('a token is the signed time, as Gitaly makes it', () => {
  // printf 1700000000 | openssl dgst -sha256 -hmac 'a secret of Gitaly'
  const signature = '999807ccda1ad896e7c85f255b3872c6274553906b8c885d79ca776d54f968ba';
  expect(gitalyAuthorization('a secret of Gitaly', 1_700_000_000_999)).toBe(
    `Bearer v2.${signature}.1700000000`,
  );
});
