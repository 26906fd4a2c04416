// Writes config/gitaly-tls-proxy.schema.json from the schema that validates the file. Needs a build: `npm run schema`.
import { writeFileSync } from 'node:fs';
import { renderJsonSchema } from '../dist/config/json-schema.js';

writeFileSync(new URL('../config/gitaly-tls-proxy.schema.json', import.meta.url), renderJsonSchema());
