import type { Rate } from '../inspect/rate-bucket.js';
import { DURATION_PATTERN, parseDuration } from './duration.js';
import { parsed, refused, type Parsed } from './parsed.js';
import * as z from 'zod';

/** The description of a setting in the JSON Schema. */
interface About {
  readonly description: string;
  readonly examples?: readonly string[];
  readonly default?: string | number | boolean;
  readonly pattern?: string;
}

/** A string that is parsed into the type that the program uses. */
export function textOf<T>(parse: (text: string) => Parsed<T>, about: About) {
  return z
    .string()
    .transform((text, context): T => {
      const result = parse(text);
      if (result.ok) return result.value;
      context.addIssue({ code: 'custom', message: result.message });
      return z.NEVER;
    })
    .meta({ ...about });
}

/** The path of a file. */
export function path(description: string, example: string) {
  return textOf(parsePath, {
    description: `${description} Relative paths are relative to this file.`,
    examples: [example],
  });
}

/** A duration; `standard` is its default. */
export function duration(description: string, standard: string) {
  return textOf(parseDuration, {
    description,
    default: standard,
    examples: [standard],
    pattern: DURATION_PATTERN,
  });
}

/** A token bucket; each key has a default and a minimum. */
export function tokenBucket(description: string, standard: Rate, least: Rate) {
  return z
    .strictObject({
      rate: z
        .number()
        .min(least.perSecond)
        .meta({
          description: 'The refill rate, per second.',
          default: standard.perSecond,
          examples: [standard.perSecond],
        })
        .optional(),
      burst: z
        .int()
        .min(least.burst)
        .meta({
          description: 'The size of the token bucket.',
          default: standard.burst,
          examples: [standard.burst],
        })
        .optional(),
    })
    .meta({ description, examples: [{ rate: standard.perSecond, burst: standard.burst }] });
}

function parsePath(text: string): Parsed<string> {
  if (text === '') return refused('expected the path of a file, got an empty string');
  return text.includes('\0') ? refused('a path cannot contain a NUL byte') : parsed(text);
}
