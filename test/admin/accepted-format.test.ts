import { expect, test } from 'vitest';

import { acceptedFormat } from '../../src/admin/accepted-format.js';

/** What Prometheus 2.53 and 3.1 send. */
const PROMETHEUS_2 =
  'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';
const PROMETHEUS_3 =
  'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';

test.each([
  [undefined, 'prometheus'],
  ['', 'prometheus'],
  ['*/*', 'prometheus'],
  ['text/plain', 'prometheus'],
  ['application/json', 'prometheus'],
  ['application/openmetrics-text', 'openmetrics'],
  ['Application/OpenMetrics-Text; version="1.0.0"; charset=utf-8', 'openmetrics'],
  ['application/openmetrics-text;q=0, text/plain', 'prometheus'],
  ['application/openmetrics-text;q=0', 'prometheus'],
  ['application/openmetrics-text;q=0.000, */*', 'prometheus'],
  ['application/openmetrics-text;q=0.2, text/plain;q=0.3', 'prometheus'],
  ['application/openmetrics-text;q=0.3, text/plain;q=0.2', 'openmetrics'],
  ['text/plain, application/openmetrics-text', 'openmetrics'],
  ['application/openmetrics-text;q=0.5, */*', 'prometheus'],
  ['application/openmetrics-text;q=0.5, */*, text/plain;q=0', 'openmetrics'],
  ['application/openmetrics-text;version=2.0.0, text/plain;q=0.1', 'prometheus'],
  ['application/openmetrics-text;q=2', 'prometheus'],
  ['application/openmetrics-textile', 'prometheus'],
  [PROMETHEUS_2, 'openmetrics'],
  [PROMETHEUS_3, 'openmetrics'],
])('Accept: %s is answered in %s', (accept, format) => {
  expect(acceptedFormat(accept)).toBe(format);
});
