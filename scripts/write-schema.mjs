// `npm run schema`: writes the JSON Schema of the configuration file.
import { writeFileSync } from 'node:fs';

import { importSource } from './bundle.mjs';

const { renderJsonSchema } = /** @type {typeof import('../src/config/json-schema.js')} */ (
  await importSource('src/config/json-schema.ts')
);
writeFileSync(new URL('../config/gitaly-tls-proxy.schema.json', import.meta.url), renderJsonSchema());
