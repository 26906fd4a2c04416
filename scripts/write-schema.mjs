// Writes config/gitaly-tls-proxy.schema.json from the schema that validates the file. Needs a build: `npm run schema`.
import { writeFileSync } from 'node:fs';

/** @type {unknown} */
const built = await import(new URL('../dist/config/json-schema.js', import.meta.url).href);
const { renderJsonSchema } = /** @type {typeof import('../src/config/json-schema.js')} */ (built);
writeFileSync(new URL('../config/gitaly-tls-proxy.schema.json', import.meta.url), renderJsonSchema());
