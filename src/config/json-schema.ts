import * as z from 'zod';
import { settingsSchema } from './schema.js';

/** The JSON Schema (draft 2020-12) of the configuration file, for editors and CI. */
function configurationJsonSchema(): object {
  const { $schema, ...schema } = z.toJSONSchema(settingsSchema, {
    target: 'draft-2020-12',
    // Describes the file, not the values that the program reads from it.
    io: 'input',
    override({ zodSchema, jsonSchema }) {
      // zod omits examples of a string that is parsed into another type, although they describe the string.
      const examples = zodSchema instanceof z.ZodType ? zodSchema.meta()?.['examples'] : undefined;
      if (Array.isArray(examples)) jsonSchema.examples = [...(examples as unknown[])];
      // Every number in JSON is within these bounds, which are therefore of no use to an operator.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return { $schema, $id: 'urn:gitaly-tls-proxy:configuration', ...schema };
}

/** The text of `config/gitaly-tls-proxy.schema.json`. */
export function renderJsonSchema(): string {
  return `${JSON.stringify(configurationJsonSchema(), null, 2)}\n`;
}
