import { expect, test } from 'vitest';

import {
  EndlessAnswer,
  UnaskedCoding,
  UnaskedUpgrade,
  UnknownVersion,
  upstreamFault,
  UpstreamStalled,
} from '../../src/http/upstream-fault.js';

function withCode(code: string): Error {
  return Object.assign(new Error(code), { code });
}

test.each<[string, unknown, string, string]>([
  ['an upstream that has stopped reading', new UpstreamStalled(), 'write_stall', 'write_stall'],
  ['an upgrade that was not requested', new UnaskedUpgrade(), 'malformed', 'malformed'],
  ['a transfer coding that was not requested', new UnaskedCoding(), 'malformed', 'malformed'],
  ['an unknown HTTP version', new UnknownVersion(), 'malformed', 'malformed'],
  ['an answer that ends with its connection', new EndlessAnswer(), 'malformed', 'malformed'],
  ['an answer that the parser refuses', withCode('HPE_INVALID_CONSTANT'), 'malformed', 'malformed'],
  ['a header that Node cannot pass on', withCode('ERR_INVALID_CHAR'), 'malformed', 'malformed'],
  [
    'a client certificate that upstream refuses',
    withCode('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED'),
    'unreachable',
    'unreachable',
  ],
  ['a reset', withCode('ECONNRESET'), 'closed', 'cut'],
  ['a value that is not an error', 'closed', 'closed', 'cut'],
])('%s is classified before and within an answer', (_what, error, before, within) => {
  expect([upstreamFault(error, false), upstreamFault(error, true)]).toEqual([before, within]);
});
