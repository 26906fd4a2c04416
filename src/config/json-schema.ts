import * as z from 'zod';
import { settingsSchema } from './schema.js';

/** The JSON Schema (draft 2020-12) of the configuration file, for editors and CI of those who write one. */
function configurationJsonSchema(): object {
  const { $schema, ...schema } = z.toJSONSchema(settingsSchema, {
    target: 'draft-2020-12',
    // The file is what goes in; what the program makes of it is not the reader's business.
    io: 'input',
    override({ zodSchema, jsonSchema }) {
      // Examples are left out by zod where a text is read into something else, though they describe the text.
      const examples = zodSchema instanceof z.ZodType ? zodSchema.meta()?.['examples'] : undefined;
      if (Array.isArray(examples)) jsonSchema.examples = [...(examples as unknown[])];
      // JSON has no other numbers; the bound says nothing to an operator.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return { $schema, $id: 'urn:gitaly-tls-proxy:configuration', ...schema };
}

/** The text of `config/gitaly-tls-proxy.schema.json`. */
export function renderJsonSchema(): string {
  return `${JSON.stringify(configurationJsonSchema(), null, 2)}\n`;
}
